"""Exact arithmetic on untrusted text: parsed, never evaluated as code, and bounded in size and time."""

from __future__ import annotations

import ast
from decimal import Decimal, localcontext
from fractions import Fraction

MAX_CHARS = 1_000
MAX_DEPTH = 50
#: Largest numerator or denominator, in bits: about 3000 decimal digits.
MAX_BITS = 10_000
#: Decimal places shown of a fraction that has no exact decimal.
PLACES = 15


class CannotCalculate(Exception):
    """The expression is no arithmetic, has no value, or is too large. Says which, in one sentence."""


def evaluate(expression: str) -> str:
    """The value of *expression*: a whole number, an exact decimal, or a fraction with its decimal approximation.

    Raises:
        CannotCalculate: see there.
    """
    if len(expression) > MAX_CHARS:
        raise CannotCalculate(f"The expression is longer than {MAX_CHARS} characters.")
    text = expression.replace("×", "*").replace("·", "*").replace("÷", "/").replace("−", "-").replace("^", "**")
    try:
        # A decimal comma is not accepted: 1,234 means two things.
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise CannotCalculate(f"{expression!r} is no arithmetic expression.") from None
    return _shown(_value(tree.body, text.strip(), 0))


def _value(node: ast.expr, text: str, depth: int) -> Fraction:
    if depth > MAX_DEPTH:
        raise CannotCalculate("The expression is nested too deeply.")
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
        # The digits as written: a float would lose 0.1.
        return _literal(ast.get_source_segment(text, node) or "")
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.UAdd, ast.USub)):
        value = _value(node.operand, text, depth + 1)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp):
        return _binary(node.op, _value(node.left, text, depth + 1), _value(node.right, text, depth + 1))
    raise CannotCalculate("Only numbers, + - * / // % ** and parentheses can be calculated.")


def _literal(digits: str) -> Fraction:
    mantissa, _, exponent = digits.replace("_", "").lower().partition("e")
    try:
        if exponent and abs(int(exponent)) > MAX_BITS // 4:
            raise CannotCalculate("A number is too large.")
        return _bounded(Fraction(f"{mantissa}e{exponent or 0}"))
    except ValueError:
        raise CannotCalculate(f"{digits!r} is no decimal number.") from None


def _binary(operator: ast.operator, left: Fraction, right: Fraction) -> Fraction:
    try:
        match operator:
            case ast.Add():
                return _bounded(left + right)
            case ast.Sub():
                return _bounded(left - right)
            case ast.Mult():
                return _bounded(left * right)
            case ast.Div():
                return _bounded(left / right)
            case ast.FloorDiv():
                return _bounded(Fraction(left // right))
            case ast.Mod():
                return _bounded(left % right)
            case ast.Pow():
                return _power(left, right)
    except ZeroDivisionError:
        raise CannotCalculate("Division by zero has no value.") from None
    raise CannotCalculate("Only + - * / // % ** can be calculated.")


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        raise CannotCalculate("Only whole exponents can be calculated exactly.")
    if abs(base) <= 1 and base.denominator == 1:
        # 0 and ±1: their powers repeat.
        return base ** (exponent.numerator % 2) if base else Fraction(0) ** min(exponent.numerator, 1)
    # Known before it is computed: 9**9**9 must cost nothing.
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if (bits - 1) * abs(exponent.numerator) > MAX_BITS:
        raise CannotCalculate("The result is too large.")
    return _bounded(base**exponent.numerator)


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise CannotCalculate("The result is too large.")
    return value


def _shown(value: Fraction) -> str:
    if value.denominator == 1:
        return str(value.numerator)
    rest, twos, fives = value.denominator, 0, 0
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    with localcontext() as context:
        if rest == 1 and max(twos, fives) <= 100:
            context.prec = MAX_BITS
            return f"{(Decimal(value.numerator) / Decimal(value.denominator)).normalize():f}"
        context.prec = PLACES
        approximation = Decimal(value.numerator) / Decimal(value.denominator)
    return f"{value.numerator}/{value.denominator} ≈ {approximation}"
