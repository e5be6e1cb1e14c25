"""Routes of what a person can do: a form, what it would change, and one confirmation.

A page without script can issue commands where no key is trusted. Where keys are trusted, the script asks for the entry
(``draft``), signs its bytes with the key in this browser, and sends the signature (``submit``)."""

import secrets
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from litestar import Request, Response, get, post
from litestar.exceptions import NotFoundException, PermissionDeniedException, ValidationException
from litestar.params import FromPath, JSONBody
from msgspec import Struct

from schemas.codec import UNDECODABLE
from schemas.common import ENSEMBLE
from schemas.control import Approve, Command, CommandRecorded
from services.observatory.web.pages import page
from services.observatory.web.sessions import Caller, operator, require
from services.observatory.web.signing_in import FORM_BYTES, Fields
from services.observatory.web.site import Site, SiteOf
from shared.commands.desk import CommandDesk, Done, Preview
from shared.commands.forms import FORMS, WEIGHT_OF, Form, command_of
from shared.control import State, canonical
from shared.control.changes import policy_differences, words
from shared.control.drafting import OvertakenError
from shared.control.issuing import RefusedError

REASON: Final = 2_000
ISSUABLE: Final = tuple(form.command for form in FORMS.values())
"""What is issued from here: no key is trusted, and no installation founded, by a page."""
_decode: Final = msgspec.json.Decoder(CommandRecorded).decode

Asked = Request[Caller, str, Any]


class DraftAsked(Struct, frozen=True):
    """What a page asks an entry for. ``values``: the fields of the form. ``public_key``: of the key in this browser, 64
    hexadecimal digits; '' without one."""

    values: dict[str, str]
    reason: str
    command_id: str
    public_key: str = ""
    expects: int | None = None


class Signed(Struct, frozen=True):
    """An entry, as it was given, and the signature over its bytes (128 hexadecimal digits)."""

    entry: str
    signature: str


class Answer(Struct, frozen=True):
    """What became of a command: the entry to sign, or that it is done, in words; or why it is not."""

    entry: str = ""
    done: str = ""
    version: int = 0
    detail: str = ""
    overtaken: bool = False


@get("/act", include_in_schema=False, guards=[operator])
async def act_page(request: Asked, site: SiteOf) -> Response[str]:
    """Show what can be done."""
    forms = tuple(form for form in FORMS.values() if request.user.is_at_least(form.role))
    return page(site, "act-list.html", here="act", live="screen=proposals", forms=forms, proposals=site.proposals())


@get("/key", include_in_schema=False, guards=[operator])
async def key_page(request: Asked, site: SiteOf) -> Response[str]:
    """Show the key in this browser: whether there is one, and how it is trusted."""
    keys = [(key.key_id, key.holder, key.public_key) for _, key in sorted((await desk_of(site).state()).keys.items())]
    return page(site, "key.html", here="act", keys=keys, name=request.user.name)


@get("/act/{name:str}", include_in_schema=False, guards=[operator])
async def form_page(request: Asked, site: SiteOf, name: FromPath[str]) -> Response[str]:
    """Show a form, with the values that the address gives it."""
    return _form(site, site.projection.newest, _known(request.user, name), dict(request.query_params.items()))


@post("/act/{name:str}", include_in_schema=False, status_code=200, guards=[operator], request_max_body_size=FORM_BYTES)
async def preview_page(request: Asked, site: SiteOf, name: FromPath[str], data: Fields) -> Response[str]:
    """Show what a command would change; the form again, with the reason, if it is refused."""
    form, values = _known(request.user, name), _texts(data)
    desk = desk_of(site)
    state = await desk.state()
    try:
        shown = await desk.preview(command_of(state, name, values), request.user.name)
    except RefusedError as error:
        return _form(site, state, form, values, fault=str(error))
    if not values.get("reason", "").strip():
        return _form(site, state, form, values, fault="Reason: expected why, got nothing. It is recorded.")
    return _preview(site, form, values, shown, request.user.name)


@post(
    "/act/{name:str}/issue", include_in_schema=False, status_code=200, guards=[operator],
    request_max_body_size=FORM_BYTES,
)  # fmt: skip
async def issue_page(request: Asked, site: SiteOf, name: FromPath[str], data: Fields) -> Response[str]:
    """Issue a command without a signature, and show what it changed."""
    form, values = _known(request.user, name), _texts(data)
    desk = desk_of(site)
    state = await desk.state()
    try:
        done = await desk.issue(
            command_of(state, name, values),
            actor=request.user.name,
            reason=values.get("reason", ""),
            command_id=values.get("command_id") or None,
            expects=int(values["expects"]) if values.get("expects", "").isdecimal() else None,
        )
    except RefusedError as error:
        return _form(site, state, form, values, fault=str(error))
    return page(site, "act-done.html", here="act", form=form, done=done, said=said(done, form.title))


@post(
    "/act/{name:str}/draft",
    include_in_schema=False,
    status_code=200,
    guards=[operator],
    request_max_body_size=FORM_BYTES,
)
async def draft_answer(
    request: Asked, site: SiteOf, name: FromPath[str], data: JSONBody[DraftAsked]
) -> Response[Answer]:
    """Return the entry to sign; where no key is trusted, issue the command."""
    form, desk = _known(request.user, name), desk_of(site)
    try:
        state = await desk.state() if name != "halt" else None
        return answer(
            await drafted(
                desk,
                command_of(state or State(), name, data.values),
                request.user.name,
                data,
            ),
            form.title,
        )
    except RefusedError as error:
        return refused(error)


@post("/act/submit", include_in_schema=False, status_code=200, guards=[operator], request_max_body_size=FORM_BYTES)
async def submit_answer(request: Asked, site: SiteOf, data: JSONBody[Signed]) -> Response[Answer]:
    """Append an entry with its signature."""
    try:
        return answer(await submitted(desk_of(site), request.user, data), "")
    except RefusedError as error:
        return refused(error)


async def drafted(desk: CommandDesk, command: Command, actor: str, asked: Any) -> CommandRecorded | Done:
    """Return the entry to sign, of a command that a person asks for; ``Done`` where no key is trusted. Raises
    ``RefusedError``."""
    if (await desk.state_for(command)).open:
        return await desk.issue(
            command, actor=actor, reason=asked.reason, command_id=asked.command_id, expects=asked.expects
        )
    if not asked.public_key:
        raise RefusedError("this installation accepts signed commands only: load your key on the page Key (/key)")
    return await desk.draft(
        command,
        actor=actor,
        reason=asked.reason,
        public_key=asked.public_key,
        command_id=asked.command_id,
        expects=asked.expects,
    )


async def submitted(desk: CommandDesk, caller: Caller, signed: Signed) -> Done:
    """Append an entry that its person signed. Raises ``RefusedError``, and ``PermissionDeniedException`` for an entry
    that names another person, or a command that is not issued from here."""
    try:
        entry = _decode(signed.entry.encode())
    except UNDECODABLE as error:
        raise ValidationException(f"entry: {error}") from None
    if canonical(entry) != signed.entry.encode():
        raise ValidationException("entry: expected the bytes that were given to be signed")
    if entry.actor != caller.name:
        raise PermissionDeniedException(f"the entry names {entry.actor!r}, and {caller.name!r} is signed in")
    if not isinstance(entry.command, ISSUABLE):
        raise PermissionDeniedException("this command is issued by the console alone")
    require_role(caller, entry.command)
    return await desk.submit(entry, signed.signature)


def require_role(caller: Caller, command: Command) -> None:
    """Raise ``PermissionDeniedException`` unless the role of a caller allows a command."""
    require(caller, "approver" if isinstance(command, Approve) else "operator")


def answer(result: CommandRecorded | Done, title: str) -> Response[Answer]:
    """Return an entry to sign, or what was done."""
    if isinstance(result, Done):
        return Response(Answer(done=said(result, title), version=result.version))
    return Response(Answer(entry=canonical(result).decode()))


def refused(error: RefusedError) -> Response[Answer]:
    """Return why a command is refused."""
    return Response(Answer(detail=str(error), overtaken=isinstance(error, OvertakenError)), status_code=409)


def said(done: Done, title: str) -> str:
    """Return in words what became of a command."""
    if done.repaired:
        where = ", ".join(map(str, done.repaired))
        return f"{title}: in force already as version {done.version}; the fences of partitions {where} were set"
    if done.repeated:
        return f"{title}: recorded before, as version {done.version}; nothing was done"
    warning = f". But {done.warning}" if done.warning else ""
    return f"{title or 'The command'} is version {done.version}{warning}"


def desk_of(site: Site) -> CommandDesk:
    """Return where commands are issued. Raises ``PermissionDeniedException`` for an observatory that only shows."""
    if site.desk is None:
        raise PermissionDeniedException("this observatory only shows")
    return site.desk


def _known(caller: Caller, name: str) -> Form:
    if name not in FORMS:
        raise NotFoundException(f"there is no form {name!r}; there are: {', '.join(FORMS)}")
    require(caller, FORMS[name].role)
    return FORMS[name]


def _texts(data: Mapping[str, Any]) -> dict[str, str]:
    return {name: value for name, value in data.items() if isinstance(value, str)}


def _form(site: Site, state: State, form: Form, values: Mapping[str, str], fault: str = "") -> Response[str]:
    registered = [(digest, one.model) for digest, one in state.artifacts.items() if digest not in state.retired]
    shadows = state.policy_shadows
    shown = page(
        site,
        "act-form.html",
        here="act",
        form=form,
        values=values,
        fault=fault,
        models=sorted({*state.models, *(model for _, model in registered), *([ENSEMBLE] if state.policies else [])}),
        artifacts=sorted(registered, key=lambda pair: (pair[1], pair[0])),
        policies=[(digest, policy_differences(state.policy, state.policies[digest].policy)) for digest in shadows],
        weights={f"{WEIGHT_OF}{name}": state.models[name].weight or 0.0 for name in state.voting},
    )
    shown.status_code = 409 if fault else 200
    return shown


def _preview(site: Site, form: Form, values: Mapping[str, str], shown: Preview, actor: str) -> Response[str]:
    return page(
        site,
        "act-preview.html",
        here="act",
        form=form,
        values={name: value for name, value in values.items() if not name.startswith("_") and name != "reason"},
        reason=values["reason"].strip()[:REASON],
        shown=shown,
        words=words(shown.command),
        command=msgspec.json.encode(shown.command, order="deterministic").decode(),
        command_id=secrets.token_hex(8),
        actor=actor,
    )
