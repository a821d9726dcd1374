//! What became of work that an earlier daemon left open: the guest is asked, and its answer is on record before the
//! outcome.

use std::time::Duration;

use pyro_core::{Command, Evidence, Operation, OperationResolved, WorkspaceId};
use pyro_runtime::guest::{Guest, GuestError, ImportState};

use crate::context::Context;
use crate::sessions::chain;

/// How often a guest is asked that does not know of it. What an earlier daemon has sent may still be on its way when the
/// guest is first asked, and may not run behind a record that it never arrived.
const VAIN_MAX: u32 = 5;

/// Time between the first two questions; each further one is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// Asks the guest of a piece of work, which has the number `op` there, and records the answer.
pub(crate) async fn gather(
    context: &Context,
    workspace: WorkspaceId,
    operation: Operation,
    guest: &Guest,
    op: u64,
) {
    let mut pause = PAUSE_MIN;
    for vain in 1.. {
        let evidence = match ask(guest, operation, op).await {
            Ok(Evidence::Unknown) if vain < VAIN_MAX => {
                tokio::time::sleep(pause).await;
                pause *= 2;
                continue;
            }
            Ok(evidence) => evidence,
            Err(error) => Evidence::Silent { seen: format!("failed to {}", chain(&error)) },
        };
        return record(context, workspace, operation, evidence).await;
    }
}

async fn ask(guest: &Guest, operation: Operation, op: u64) -> Result<Evidence, GuestError> {
    match operation {
        Operation::Exec(_) | Operation::Shell(_) => guest.evidence(op).await,
        Operation::Sync(_) => Ok(match guest.ask_import(op).await? {
            // It does not tell how much it has.
            ImportState::Running => Evidence::Running { stdout_len: 0, stderr_len: 0 },
            ImportState::Imported(_) => Evidence::InPlace,
            ImportState::Failed(failure) => Evidence::Failed { reason: failure.to_string() },
            ImportState::Unknown => Evidence::Unknown,
        }),
    }
}

/// Records that the guest is dead which could have told.
pub(crate) async fn of_dead(context: &Context, workspace: WorkspaceId, operation: Operation, seen: &str) {
    record(context, workspace, operation, Evidence::GuestGone { seen: seen.to_owned() }).await;
}

async fn record(context: &Context, workspace: WorkspaceId, operation: Operation, evidence: Evidence) {
    let fact = OperationResolved { workspace, operation, evidence };
    context.record_fact(Command::RecordResolved(fact)).await;
}
