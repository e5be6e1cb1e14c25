"""Routes of the API by which programs act. Each takes a token of ``conclave observatory token``."""

from typing import Annotated, Any, Final

from litestar import Request, get, post
from litestar.exceptions import PermissionDeniedException
from litestar.openapi import ResponseSpec
from litestar.params import JSONBody
from msgspec import UNSET, Meta, Struct, UnsetType

from schemas.control import (
    Approve,
    Command,
    ConfirmPromotion,
    Halt,
    KeyHex,
    Promote,
    PromotePolicy,
    Propose,
    Refuse,
    Resume,
    Retire,
    Rollback,
    SetWeights,
    SignatureHex,
    StartPolicyShadow,
    StartShadow,
    StopPolicyShadow,
    StopShadow,
)
from services.observatory.screens.proposals import Proposals
from services.observatory.web.acting import Answer, Signed, desk_of, drafted, require_role, said, submitted
from services.observatory.web.sessions import Caller, operator, program
from services.observatory.web.site import SiteOf
from shared.commands.desk import Done
from shared.commands.forms import FORMS
from shared.control import canonical

Issuable = (
    Halt
    | Resume
    | Promote
    | Rollback
    | ConfirmPromotion
    | StartShadow
    | StopShadow
    | SetWeights
    | Retire
    | Propose
    | Approve
    | Refuse
    | StartPolicyShadow
    | StopPolicyShadow
    | PromotePolicy
)
Reason = Annotated[str, Meta(min_length=1, max_length=2000)]
CommandId = Annotated[str, Meta(min_length=1, max_length=64)]
BODY = 65_536
Asked = Request[Caller, str, Any]


class FieldShown(Struct, frozen=True):
    """A field of a form."""

    name: str
    label: str
    kind: str
    required: bool
    help: str


class FormShown(Struct, frozen=True):
    """What can be done: the type of the command, its title, and its fields."""

    name: str
    type: str
    title: str
    help: str
    fields: tuple[FieldShown, ...]


class PreviewAsked(Struct, frozen=True):
    """A command to look at."""

    command: Issuable


class ChangeShown(Struct, frozen=True):
    """One difference of the configuration: what differs, before and after. `-`: it does not exist."""

    what: str
    before: str
    after: str


class PreviewShown(Struct, frozen=True):
    """What a command would change on version `before`. `command`: with the evidence that there is. `signed`: whether
    it must be signed. `warning`: what to mind although it is accepted."""

    before: int
    command: Issuable
    changes: tuple[ChangeShown, ...]
    warning: str
    signed: bool


class IssueAsked(Struct, frozen=True):
    """A command to issue, why, and an id: the same id is recorded once. `expects`: the version that the configuration
    must have."""

    command: Issuable
    reason: Reason
    command_id: CommandId
    expects: int | None = None


class EntryAsked(IssueAsked, frozen=True, kw_only=True):
    """A command whose entry is to be signed with the private half of `public_key`."""

    public_key: KeyHex


class SignedEntry(Struct, frozen=True):
    """An entry as it was given, and the Ed25519 signature over its bytes."""

    entry: Annotated[str, Meta(max_length=BODY)]
    signature: SignatureHex


class Fault(Struct, frozen=True):
    """Why a request is refused. `overtaken`: another command came first."""

    status_code: int
    detail: str
    overtaken: bool | UnsetType = UNSET


FAULTS: Final = {
    401: ResponseSpec(Fault, description="No valid token", generate_examples=False),
    403: ResponseSpec(Fault, description="Not of this role", generate_examples=False),
    409: ResponseSpec(Fault, description="The command is refused", generate_examples=False),
    413: ResponseSpec(Fault, description="Too long", generate_examples=False),
    503: ResponseSpec(Fault, description="The server of the log does not answer", generate_examples=False),
}
"""How what changes something may be answered, besides 200 and 400."""


@get("/api/v1/acts", tags=["acts"], summary="What can be done")
async def forms_answer() -> tuple[FormShown, ...]:
    """Return the commands that operators issue here, with their fields."""
    return tuple(
        FormShown(
            name=form.name,
            type=str(form.command.__struct_config__.tag),
            title=form.title,
            help=form.help,
            fields=tuple(FieldShown(*field) for field in form.fields),
        )
        for form in FORMS.values()
    )


@get("/api/v1/proposals", tags=["acts"], summary="What waits for a second person?")
async def proposals_answer(site: SiteOf) -> Proposals:
    """Return which commands need a second person, who approves them, and the open proposals. To approve one, preview
    and issue `approve` with its number and the proposed command."""
    return site.proposals()


@post(
    "/api/v1/acts/preview", tags=["acts"], summary="What would a command change?", status_code=200,
    guards=[program, operator], responses=FAULTS, request_max_body_size=BODY,
)  # fmt: skip
async def preview_answer(request: Asked, site: SiteOf, data: JSONBody[PreviewAsked]) -> PreviewShown:
    """Return the differences that a command would make now. Nothing is recorded. 409: why it is refused."""
    require_role(request.user, data.command)
    shown = await desk_of(site).preview(data.command, request.user.name)
    return PreviewShown(
        before=shown.before,
        command=_issuable(shown.command),
        changes=tuple(ChangeShown(*change) for change in shown.changes),
        warning=shown.warning,
        signed=shown.signed,
    )


@post(
    "/api/v1/acts/issue", tags=["acts"], summary="Issue a command", status_code=200,
    guards=[program, operator], responses=FAULTS, request_max_body_size=BODY,
)  # fmt: skip
async def issue_answer(request: Asked, site: SiteOf, data: JSONBody[IssueAsked]) -> Answer:
    """Issue a command where no key is trusted. 409: why it is refused, and which commands came first."""
    require_role(request.user, data.command)
    done = await desk_of(site).issue(
        data.command,
        actor=request.user.name,
        reason=data.reason,
        command_id=data.command_id,
        expects=data.expects,
    )
    return _answer(done)


@post(
    "/api/v1/acts/draft", tags=["acts"], summary="Get the entry of a command, to sign it", status_code=200,
    guards=[program, operator], responses=FAULTS, request_max_body_size=BODY,
)  # fmt: skip
async def draft_answer(request: Asked, site: SiteOf, data: JSONBody[EntryAsked]) -> Answer:
    """Return the entry; sign its UTF-8 bytes, and send both to `submit`. Where no key is trusted, the command is
    issued at once."""
    require_role(request.user, data.command)
    result = await drafted(desk_of(site), data.command, request.user.name, data)
    return _answer(result) if isinstance(result, Done) else Answer(entry=canonical(result).decode())


@post(
    "/api/v1/acts/submit", tags=["acts"], summary="Issue a signed command", status_code=200,
    guards=[program, operator], responses=FAULTS, request_max_body_size=BODY,
)  # fmt: skip
async def submit_answer(request: Asked, site: SiteOf, data: JSONBody[SignedEntry]) -> Answer:
    """Append a signed entry. 409 with `overtaken`: another command came first; ask for the entry again."""
    return _answer(await submitted(desk_of(site), request.user, Signed(data.entry, data.signature)))


def _answer(done: Done) -> Answer:
    return Answer(done=said(done, ""), version=done.version)


def _issuable(command: Command) -> Issuable:
    if not isinstance(command, Issuable):
        raise PermissionDeniedException("this command is issued by the console alone")
    return command
