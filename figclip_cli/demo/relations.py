"""How an event relates to the third one, in VidSitu's four labels, decided by who does what to whom in both."""

from __future__ import annotations

from figclip_cli.demo.scenario import ClipPlan, Event

CAUSES, REACTION, ENABLES, UNRELATED = RELATIONS = ("Causes", "Reaction To", "Enables", "NoRel")
THIRD_EVENT = 2


def relations(plan: ClipPlan) -> dict[int, str]:
    """Return the label of each event but the third, by position from 0.

    Whichever event is earlier comes first in the rule, as in VidSitu, where ``Causes`` and ``Enables`` lead from the
    earlier event to the later one, and ``Reaction To`` says that the later one answers the earlier one.
    """
    third = plan.events[THIRD_EVENT]
    return {
        index: relation(event, third) if index < THIRD_EVENT else relation(third, event)
        for index, event in enumerate(plan.events)
        if index != THIRD_EVENT
    }


def relation(earlier: Event, later: Event) -> str:
    """Return one label for two events, the earlier one first.

    ===============  =====================================================================================
    ``Causes``       The same one does something to the same one again.
    ``Reaction To``  Roles are exchanged: whoever was acted upon acts upon whoever acted.
    ``Enables``      Else: whoever acts later took part before, acting or acted upon.
    ``NoRel``        Else: whoever acts later had no part in what came before.
    ===============  =====================================================================================
    """
    before, after = (earlier.agent, earlier.patient), (later.agent, later.patient)
    if None not in before and before == after:
        return CAUSES
    if before == after[::-1]:
        return REACTION
    return ENABLES if later.agent in before else UNRELATED
