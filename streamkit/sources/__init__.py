"""What mappings and deliveries read: the port `source`, our streams behind it, and how one is found."""
