"""Text to tree and back: tokens, the tree's types, the parser, the printer."""
