"""What the trainer does about a fit of a stacker, besides running it: request it by schedule, fix its rounds, and put
its result in shadow."""

from msgspec import structs

from schemas.control import StartPolicyShadow
from schemas.training import RoundEnds, StackerFitted, StackerRequested, StackerStarted
from services.trainer.core import GROUP
from shared.control.issuing import ControlWriter, RefusedError
from shared.log import Log, StreamKey


async def fixed_rounds(log: Log, partitions: int, job: str) -> StackerStarted:
    """Fix the rounds of a fit: everything that is on the streams now. Scores are read before the decisions they are
    about, and these before the configurations that made them."""
    ends = []
    for partition in range(partitions):
        scores = (await log.extent(StreamKey("scores", partition))).last
        ends.append(RoundEnds(partition, (await log.extent(StreamKey("decisions", partition))).last, scores))
    control = (await log.extent(StreamKey("control"))).last
    return StackerStarted(request=job, attempt=1, control=control, ends=tuple(ends), worker="", at=0)


async def put_in_shadow(control: ControlWriter, made: StackerFitted, request: StackerRequested) -> StackerFitted:
    """Start the fitted policy in shadow if the training policy asks for it. It is never promoted here. One that an
    earlier fit found as well may be in shadow already."""
    state = await control.state()
    if not state.training.shadow:
        return structs.replace(made, version=state.version, note="the training policy leaves shadows to people")
    start = StartPolicyShadow(made.policy, made.scale, made.money_scale)
    why, command = f"training job {made.request[:12]}: {request.reason}"[:2000], f"training-shadow-{made.request}"
    try:
        issued = await control.issue(start, actor=GROUP, reason=why, command_id=command)
    except RefusedError as error:
        state = await control.state()
        if made.digest in state.policy_shadows:
            return structs.replace(made, version=state.version, shadow=True)
        return structs.replace(made, version=state.version, note=str(error)[:2000])
    return structs.replace(made, version=issued.version, shadow=True)
