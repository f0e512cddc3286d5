"""What the panel knows: networks by name, and the states of their pruned versions, each
found out once.

A state begins as a first estimate (`look`) and gets better (`refined`, `zipped`); only
the time is measured anew whenever it is asked for. No widgets here.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import nn

from utils import measure
from utils.explorer.kinds import KINDS, Kind
from utils.explorer.state import Controls, Curve, State
from utils.explorer.subject import Subject, laid_out
from utils.models import MODELS

ROUNDS = 15  # of timing
# pruned networks at hand, as many as a slider has stops, and how large they may be
PRUNED_AT_HAND, LARGEST_AT_HAND = 16, 2e6
Stops = tuple[float, ...]


class Memory:
    """The course's networks, or a learner's own, and all that was found out about them.

    Args:
        own: the learner's network; None offers the course's.
        pictures: validation pictures that accuracies rest on, at most.
    Attributes:
        states: what is known of the networks as pruned, by their controls.
        tuned: what is known of the fine-tuned ones, and they themselves.
    """

    def __init__(self, own: Subject | None = None, pictures: int = 5000) -> None:
        self.networks = list(MODELS) if own is None else [own.name]
        self.states: dict[Controls, State] = {}
        self.tuned: dict[Controls, tuple[State, nn.Module]] = {}
        self._pruned: dict[Controls, nn.Module] = {}  # the last ones
        self._pictures = pictures
        self._subjects = {} if own is None else {own.name: own}
        self._offers: dict[str, dict[str, Stops | str]] = {}
        # the score that the states of a network and kind rest on
        self._rules: dict[tuple[str, str, str], object] = {}

    # ------------------------------------------------------------------ what is offered

    def subject(self, network: str) -> Subject:
        """The network of that name with its data; loaded when it is first asked for.

        Raises:
            ValueError: a network that is not offered; lists those that are.
        """
        if network not in self.networks:
            raise ValueError(
                f"network={network!r} is not offered here. Known:"
                f" {', '.join(self.networks)}."
            )
        if network not in self._subjects:
            self._subjects[network] = Subject(network, pictures=self._pictures)
        return self._subjects[network]

    def kinds(self, network: str) -> dict[str, Stops]:
        """The kinds of pruning that this network allows, with the stops of the
        slider."""
        offers = self._offers_of(network).items()
        return {name: stops for name, stops in offers if isinstance(stops, tuple)}

    def refusals(self, network: str) -> dict[str, str]:
        """Why the other kinds cannot be offered."""
        offers = self._offers_of(network).items()
        return {name: reason for name, reason in offers if isinstance(reason, str)}

    def _offers_of(self, network: str) -> dict[str, Stops | str]:
        if network not in self._offers:
            subject = self.subject(network)
            self._offers[network] = {
                name: _stops_or_reason(kind, subject) for name, kind in KINDS.items()
            }
        return self._offers[network]

    def kind(self, network: str, name: str) -> Kind:
        """The kind of that name.

        Raises:
            ValueError: the network does not allow it; says why, and what it allows.
        """
        refusals = self.refusals(network)
        if name not in KINDS:
            raise ValueError(f"kind={name!r} is not known. Known: {', '.join(KINDS)}.")
        if name in refusals:
            raise ValueError(
                f"kind={name!r} is not possible with {network}: {refusals[name]}"
                f" Possible: {', '.join(self.kinds(network))}."
            )
        return KINDS[name]

    def check(self, controls: Controls) -> Kind:
        """The kind of these controls.

        Raises:
            ValueError: something that is not offered; says what is.
        """
        kind = self.kind(controls.network, controls.kind)
        for argument, known in (("score", kind.scores()), ("scope", kind.scopes)):
            if getattr(controls, argument) not in known:
                raise ValueError(
                    f"{argument}={getattr(controls, argument)!r} does not go with"
                    f" kind={controls.kind!r}. Known: {', '.join(known)}."
                )
        return kind

    def has_score(self, controls: Controls) -> bool:
        """Whether no score has to be computed for these controls."""
        subject = self.subject(controls.network)
        return KINDS[controls.kind].has_score(subject, controls.score)

    # ---------------------------------------------------------------------- finding out

    def prune(self, controls: Controls) -> nn.Module:
        """A pruned copy of the network; raises ValueError for controls that are not
        offered."""
        model = self.check(controls).prune(self.subject(controls.network), controls)
        return laid_out(model, torch.channels_last)

    def look(self, controls: Controls) -> tuple[State, nn.Module]:
        """What is known of these controls (a first estimate if nothing was), and the
        network; fine-tuned if it was."""
        self._forget_outdated(controls)
        if controls in self.tuned:
            return self.tuned[controls]
        model = self._pruned.pop(controls, None)
        model = self.prune(controls) if model is None else model
        self._hold(controls, model)
        if controls not in self.states:
            subject = self.subject(controls.network)
            self.states[controls] = subject.first_look(controls, model)
        return self.states[controls], model

    def _hold(self, controls: Controls, model: nn.Module) -> None:
        """Have a small network at hand: a slider goes to and fro."""
        if self.subject(controls.network).saved > LARGEST_AT_HAND:
            return
        self._pruned[controls] = model
        if len(self._pruned) > PRUNED_AT_HAND:
            del self._pruned[next(iter(self._pruned))]  # the one not used for longest

    def state(self, controls: Controls) -> State:
        """Everything counted and evaluated for these controls, on all pictures; the
        time is not measured."""
        known = self._known(controls)
        if known and known.zipped is not None and self._is_refined(known):
            return known  # no need to prune again
        return self.completed(*self.look(controls))

    def curve(self, controls: Controls) -> list[State]:
        """The states at every stop of the slider, other controls as they are."""
        return [self.state(place) for place in self.places(controls)]

    def timed(self, controls: Controls, rounds: int = ROUNDS) -> State:
        """The state with its time: one picture, one thread, pruned and dense network in
        turn."""
        state, model = self.look(controls)
        state, race = self.completed(state, model), self.race(controls, model)
        for _ in range(rounds):
            race.round()
        return self.subject(controls.network).with_times(state, race)

    def refined(self, state: State, model: nn.Module) -> Iterator[State]:
        """The state, then the same with more and more pictures, until all are in, and
        at last with its zipped file; in slices that a key press can come between."""
        for better in self._answering(state, model):
            state = better
            yield state
        if state.zipped is None:
            size = 0
            for so_far in measure.zipping(model, 1):
                size = so_far
                yield state
            yield self._with_zipped(state, model, size)

    def _answering(self, state: State, model: nn.Module) -> Iterator[State]:
        yield state
        for better in self.subject(state.controls.network).refine(state, model):
            yield self.keep(better, model)

    def refine(self, controls: Controls) -> None:
        """Let what is known of these controls rest on all pictures."""
        known = self._known(controls)
        if known is None or not self._is_refined(known):
            for _ in self._answering(*self.look(controls)):
                pass

    def zipped(self, state: State, model: nn.Module) -> State:
        """The state with the size of its zipped file."""
        if state.zipped is not None:
            return state
        return self._with_zipped(state, model, measure.zipped_bytes(model, level=1))

    def _with_zipped(self, state: State, model: nn.Module, size: int) -> State:
        saved = self.subject(state.controls.network).saved
        return self.keep(replace(state, zipped=size / saved), model)

    def completed(self, state: State, model: nn.Module) -> State:
        """The state on all pictures, with its zipped file."""
        *_, state = self.refined(state, model)
        return state

    def race(self, controls: Controls, model: nn.Module) -> measure.Race:
        """The dense and the pruned network, to be timed against each other."""
        subject = self.subject(controls.network)
        return subject.race(model, zeros=KINDS[controls.kind].zeros)

    def tune(self, state: State, model: nn.Module) -> Iterator[float]:
        """Fine-tune `model`, the network of this state, in place, a step at a time:
        gives the fraction done."""
        subject = self.subject(state.controls.network)
        zeros = KINDS[state.controls.kind].zeros
        return subject.tune(model, run=state.tuned, zeros=zeros)

    # ---------------------------------------------------------------------- remembering

    def keep(self, state: State, model: nn.Module) -> State:
        """Remember what was found out, and give it back."""
        if state.tuned:
            self.tuned[state.controls] = state, model
        else:
            self.states[state.controls] = state
        return state

    def forget_tuned(self) -> None:
        """Forget all that was fine-tuned."""
        self.tuned.clear()

    def places(self, controls: Controls) -> list[Controls]:
        """The controls with each stop of the slider."""
        stops = self.kinds(controls.network)[controls.kind]
        return [replace(controls, sparsity=stop) for stop in stops]

    def known(self, controls: Controls) -> Curve:
        """What is known so far at each stop of the slider."""
        places = self.places(controls)
        return Curve(
            tuple(place.sparsity for place in places),
            {p.sparsity: self.states[p] for p in places if p in self.states},
            {p.sparsity: self.tuned[p][0] for p in places if p in self.tuned},
        )

    def _known(self, controls: Controls) -> State | None:
        self._forget_outdated(controls)
        if controls in self.tuned:
            return self.tuned[controls][0]
        return self.states.get(controls)

    def _is_refined(self, state: State) -> bool:
        whole = len(self.subject(state.controls.network).validation)
        return state.pictures == whole

    def _forget_outdated(self, controls: Controls) -> None:
        """A score that was written anew under its old name makes what was computed with
        the old one worthless."""
        rule = self.check(controls).rule(controls.score)
        place = (controls.network, controls.kind, controls.score)
        if self._rules.setdefault(place, rule) is rule:
            return
        self._rules[place] = rule
        for known in (self.states, self.tuned, self._pruned):
            for old in list(known):
                if (old.network, old.kind, old.score) == place:
                    del known[old]


def _stops_or_reason(kind: Kind, subject: Subject) -> Stops | str:
    try:
        return kind.stops(subject)
    except Exception as error:  # noqa: BLE001 - the network's own code runs here
        own = type(error) is ValueError
        return str(error) if own else f"{type(error).__name__}: {error}."
