"""Users: a resource in the database, with conditional changes and pages."""

from typing import Annotated, Any

from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, model_validator
from quart import Blueprint, Response
from quart.typing import ResponseReturnValue
from quart.views import MethodView
from typing_extensions import TypedDict

from ... import errors
from ...access.caller import Scope
from ...errors import FieldError, InvalidInput, KeyTaken
from ...jobs.usage import Quota
from ...services.idempotency import Key, Reply
from ...services.users import UserRecord, UserReply
from ..conditional import expected_version, tagged
from ..contract.needs import needs
from ..contract.operations import Answer, operation
from ..delivery.idempotency import HEADER, given, in_flight, kept, mark, reply, sent_key
from ..json import JsonResponse, encode_records
from ..paging import LINKED, PageSize, decode_cursor, encode_cursor, page_links
from ..parts import parts

blueprint = Blueprint("users", __name__)

TAG = "Users"


def _is_name(value: str) -> str:
    if not value.strip() or "\0" in value:
        raise ValueError("Must not be blank or contain NUL")
    return value


def _is_email(value: str) -> str:
    try:
        validate_email(value, check_deliverability=False, test_environment=True)
    except EmailNotValidError as error:
        raise ValueError(str(error)) from None
    return value


_NAMED = r"^[^\x00]*[^\x00\x1c-\x1f\s][^\x00]*$"  # for OpenAPI: the rule of _is_name
Name = Annotated[
    str, Field(min_length=1, max_length=50, json_schema_extra={"pattern": _NAMED}), AfterValidator(_is_name)
]
Email = Annotated[str, Field(max_length=100, json_schema_extra={"format": "email"}), AfterValidator(_is_email)]
_NAMES = AliasChoices("name", "username")


class _Named(BaseModel):
    @model_validator(mode="before")
    @classmethod
    def _has_one_name(cls, sent: Any) -> Any:
        if isinstance(sent, dict) and "name" in sent and "username" in sent:
            raise InvalidInput(FieldError("#/username", "`username` is another name for `name`: send only one of them"))
        return sent


class NewUser(_Named):
    """`username` is another name for `name`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "Ada Lovelace", "email": "ada@example.com"}]},
    )

    name: Name = Field(validation_alias=_NAMES)
    email: Email


class UserChanges(_Named):
    """Omitted members keep their values."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "Ada King"}, {"email": "ada.king@example.com"}]})

    name: Name = Field(default_factory=str, validation_alias=_NAMES)
    email: Email = Field(default_factory=str)


class UsersPage(BaseModel):
    limit: Annotated[int, PageSize(1000)] = Field(default=100, ge=1, description="Maximum number of users on the page")
    cursor: str | None = Field(default=None, description="Position after the previous page, from its Link header")


class User(TypedDict):
    id: Annotated[int, Field(ge=1, examples=[1])]
    name: Annotated[str, Field(examples=["Ada Lovelace"])]
    email: Annotated[str, Field(examples=["ada@example.com"])]


class Created(TypedDict):
    message: Annotated[str, Field(examples=["User created"])]
    user: User


def _document(user: UserRecord) -> User:
    return {"id": user.id, "name": user.name, "email": user.email}


def as_id(text: str) -> int:
    # No id is longer. int() would also accept other digits, signs and blanks.
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise errors.UserNotFound(f"{text[:50]!r} is not a user id; ids are whole numbers")
    return int(text)


@blueprint.post("/add-user")
@needs(Scope.WRITE, audited="user.create")
@operation(
    TAG,
    "Add a user",
    body=NewUser,
    answers={201: Answer("The user", Created, headers={"Location": "The user's address"})},
    headers={HEADER: "A repeated request with the same key gets the same response and adds no second user"},
    errors=(errors.EmailTaken, errors.KeyReused, errors.QuotaExceeded),
)
async def add_user(body: NewUser) -> ResponseReturnValue:
    """The email is stored as sent and must be unique, ignoring case. Unknown members are ignored."""
    key = await sent_key()
    if first := await kept(key):
        return mark(given(first))
    with in_flight(key):
        try:
            return given(await _add(body, key))
        except (KeyTaken, errors.EmailTaken):
            if first := await kept(key):  # the same request was faster in another process
                return mark(given(first))
            raise


async def _add(body: NewUser, key: Key | None) -> Reply:
    """Create the user and store the response in one transaction."""
    service = parts()
    answer = None if key is None else UserReply(key, _created, Quota(size=service.settings.kept_bytes))
    return _created(await service.users.create(body.name, body.email, most=service.settings.max_users, reply=answer))


def _created(user: UserRecord) -> Reply:
    created: Created = {"message": "User created", "user": _document(user)}
    return reply(201, {"Location": f"/user/{user.id}"}, created)


@blueprint.get("/users")
@needs(Scope.READ)
@operation(
    TAG,
    "List users",
    query=UsersPage,
    answers={200: Answer("Users, by id", list[User], headers=LINKED)},
    errors=(errors.PageTooLarge,),
)
async def list_users(query: UsersPage) -> ResponseReturnValue:
    """Returns an array, as the tutorials do. The Link header has the next page."""
    after = decode_cursor(query.cursor) if query.cursor is not None else 0
    found = await parts().users.page(
        query.limit + 1, after
    )  # one more than a page, to see whether there is a next page
    page = found[: query.limit]
    _, links = page_links(query.limit, encode_cursor(page[-1].id) if len(found) > query.limit else None)
    return JsonResponse(encode_records(page), headers=links.items())


_IF_MATCH = {"If-Match": "Change only this version; otherwise 412"}
_USER = Answer("The user", User, headers={"ETag": "Its version"})


class UserView(MethodView):
    """One user."""

    init_every_request = False

    @needs(Scope.READ)
    @operation(
        TAG,
        "Read a user",
        answers={200: _USER, 304: Answer("Not changed since If-None-Match")},
        headers={"If-None-Match": "The ETag that the caller has"},
        errors=(errors.UserNotFound,),
    )
    async def get(self, user_id: str) -> Response:
        """The id is in the response of `/add-user`."""
        return _answer(await parts().users.get(as_id(user_id)))

    @needs(Scope.WRITE, audited="user.update")
    @operation(
        TAG,
        "Change a user",
        body=UserChanges,
        answers={200: _USER},
        headers=_IF_MATCH,
        errors=(errors.UserNotFound, errors.EmailTaken, errors.StaleVersion),
    )
    async def patch(self, user_id: str, body: UserChanges) -> Response:
        """Omitted members keep their values."""
        changes = body.model_dump(exclude_unset=True)
        return _answer(await parts().users.update(as_id(user_id), **changes, expected=expected_version()))

    @needs(Scope.WRITE, audited="user.delete")
    @operation(
        TAG,
        "Delete a user",
        answers={204: Answer("The user is deleted")},
        headers=_IF_MATCH,
        errors=(errors.UserNotFound, errors.StaleVersion),
    )
    async def delete(self, user_id: str) -> ResponseReturnValue:
        """The id is never reused."""
        await parts().users.delete(as_id(user_id), expected=expected_version())
        return "", 204


def _answer(user: UserRecord) -> Response:
    return tagged(JsonResponse(encode_records(user)), user.version)


blueprint.add_url_rule("/user/<user_id>", view_func=UserView.as_view("user"))
