"""Conversion of JSON records to typed columns, by the rules of AWS's two deserializers. `exact` says what they are."""

from streamkit.delivery.convert.converter import TableConverter, make_converter, make_converter_for
from streamkit.delivery.convert.infer import infer_columns

__all__ = ["TableConverter", "infer_columns", "make_converter", "make_converter_for"]
