"""What comes back from an AIMLE server is checked here, once."""

from typing import Any

from marshmallow import Schema, ValidationError

from aimle_client.errors import UnexpectedAnswer
from aimle_client.http import Answer


def read(schema: Schema, body: Any) -> Any:
    """A successful answer's body in the shape of `schema`.

    Raises:
        UnexpectedAnswer: it is not of that shape.
    """
    try:
        return schema.load(body)
    except ValidationError as error:
        wrong = ", ".join(map(str, error.messages))  # names of attributes, or of rules
        raise UnexpectedAnswer(f"the answer is not what this API answers: {wrong}") from error


def created_id(answer: Answer) -> str:
    """The identifier of a resource that was just made: the last segment of its Location."""
    identifier = answer.headers.get("Location", "").rstrip("/").rpartition("/")[2]
    if not identifier:
        raise UnexpectedAnswer("the answer does not say where the new resource is")
    return identifier
