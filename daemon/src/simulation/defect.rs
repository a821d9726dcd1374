//! What can be put wrong on purpose, to see that the simulation notices it.

use pyro_core::{
    Command, Envelope, Event, Limits, Phase, Rejection, Seq, State, WorkspaceDeleting, decide, evolve,
};
use pyro_store::{AppendError, Draft, EventLog};

use crate::engine::Rules;

/// A defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Defect {
    /// What is acknowledged is not durable: syncs of the disk do nothing.
    LyingSync,
    /// An append that failed is acknowledged.
    AcknowledgedFailure,
    /// The last batch is gone when the log is opened, and its anchor does not know.
    DroppedBatch,
    /// Nothing is known of earlier requests.
    ForgottenRequests,
    /// The fold leaves the end of an exec out.
    MissingFold,
    /// The fold leaves the end of a workspace out.
    Resurrection,
    /// A deletion of what is being deleted is another one.
    DoubleDeletion,
    /// Bounds are not kept.
    NoLimits,
    /// A new daemon sends open work again, and the guest takes it for new.
    Resent,
    /// A new daemon gives open work up although the guest lives.
    GivenUp,
    /// The guest is told to forget an end before that is on record.
    ForgottenEnd,
    /// A guest begins what it has said not to know.
    LateBegin,
    /// A new daemon does not know that the end of a command was asked for.
    ForgottenCancel,
    /// A new daemon types all input of a shell again.
    Retyped,
    /// Lives end by a wall clock that was set.
    SetClock,
    /// A deletion leaves the guest running.
    LeftGuest,
    /// What a full disk refused is not recorded later.
    DroppedFact,
    /// A compaction removes what it drops before the event about that is durable.
    EarlyRemoval,
}

impl Defect {
    pub(super) const ALL: [Self; 18] = [
        Self::LyingSync,
        Self::AcknowledgedFailure,
        Self::DroppedBatch,
        Self::ForgottenRequests,
        Self::MissingFold,
        Self::Resurrection,
        Self::DoubleDeletion,
        Self::NoLimits,
        Self::Resent,
        Self::GivenUp,
        Self::ForgottenEnd,
        Self::LateBegin,
        Self::ForgottenCancel,
        Self::Retyped,
        Self::SetClock,
        Self::LeftGuest,
        Self::DroppedFact,
        Self::EarlyRemoval,
    ];

    /// Returns the rules that the writer goes by with this defect.
    pub(super) const fn rules(defect: Option<Self>) -> Rules {
        let right = Rules::CORE;
        match defect {
            Some(Self::AcknowledgedFailure) => Rules { append: acknowledge_always, ..right },
            Some(Self::ForgottenRequests) => Rules { earlier: |_, _| Ok(Vec::new()), ..right },
            Some(Self::MissingFold) => Rules { evolve: without_exec_ends, ..right },
            Some(Self::Resurrection) => Rules { evolve: without_deletions, ..right },
            Some(Self::DoubleDeletion) => Rules { decide: delete_again, ..right },
            Some(Self::SetClock) => Rules { evolve: without_shifts, ..right },
            Some(Self::NoLimits) => Rules { decide: decide_without_limits, ..right },
            Some(
                Self::LyingSync
                | Self::DroppedBatch
                | Self::Resent
                | Self::GivenUp
                | Self::ForgottenEnd
                | Self::LateBegin
                | Self::ForgottenCancel
                | Self::Retyped
                | Self::LeftGuest
                | Self::DroppedFact
                | Self::EarlyRemoval,
            )
            | None => right,
        }
    }
}

fn acknowledge_always(log: &EventLog, drafts: Vec<Draft>) -> Result<Vec<Envelope>, AppendError> {
    let mut seq = log.head().seq;
    let invented = drafts.iter().cloned().map(|Draft { at, actor, cause, event }| {
        seq = seq.next();
        Envelope { seq, at, actor, cause, event }
    });
    let invented: Vec<_> = invented.collect();
    log.append(drafts).or(Ok(invented))
}

fn without_exec_ends(state: &mut State, envelope: &Envelope) {
    if matches!(envelope.event, Event::ExecExited(_)) {
        skip(state, envelope.seq)
    } else {
        evolve(state, envelope)
    }
}

fn without_deletions(state: &mut State, envelope: &Envelope) {
    if matches!(envelope.event, Event::WorkspaceDeleted(_)) {
        skip(state, envelope.seq);
    } else {
        evolve(state, envelope);
    }
}

fn without_shifts(state: &mut State, envelope: &Envelope) {
    let Event::ClockObserved(event) = &envelope.event else { return evolve(state, envelope) };
    skip(state, envelope.seq);
    state.clock = Some(event.clone());
}

const fn skip(state: &mut State, seq: Seq) {
    state.seq = seq;
}

fn delete_again(state: &State, command: &Command) -> Result<Vec<Event>, Rejection> {
    if let Command::DeleteWorkspace { workspace, reason } = command
        && state.workspace(*workspace).is_some_and(|known| matches!(known.phase, Phase::Deleting { .. }))
    {
        let (workspace, reason) = (*workspace, *reason);
        return Ok(vec![Event::WorkspaceDeleting(WorkspaceDeleting { workspace, reason })]);
    }
    decide(state, command)
}

fn decide_without_limits(state: &State, command: &Command) -> Result<Vec<Event>, Rejection> {
    let mut boundless = state.clone();
    boundless.limits = Limits { mem_mib_total: 1 << 20, ..Limits::default() };
    if let Command::RecordLimits(_) = command {
        return decide(state, command);
    }
    decide(&boundless, command)
}
