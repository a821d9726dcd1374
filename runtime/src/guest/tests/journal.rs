//! What the journal of an agent says of a piece of work.

use pyro_core::{Evidence, ExitStatus};
use pyro_protocol::{Exited, Failed, GuestFrame, Operation, Phase, Retained, Stage, Started};

use super::guest;

/// Catches evidence of another operation, and an end that is told as something else than it was.
#[tokio::test]
async fn journal_tells_of_each_operation_by_its_number() {
    let exited = |status| Phase::Exited(Exited { status, duration_ms: 1, stdout_len: 9, stderr_len: 4 });
    let failed = Failed { stage: Stage::Cwd, errno: 2, message: "enter /nowhere".to_owned() };
    let phases = [
        Phase::Starting,
        Phase::Running(Started { pid: 5 }),
        exited(pyro_protocol::ExitStatus::Code(3)),
        exited(pyro_protocol::ExitStatus::Signal(9)),
        Phase::Failed(failed),
        exited(pyro_protocol::ExitStatus::Signal(200)),
    ];
    let kept = |(op, phase): (u64, &Phase)| Operation {
        op,
        phase: phase.clone(),
        stdout: Retained { start: 2, end: 9 },
        stderr: Retained { start: 0, end: 4 },
    };
    let list: Vec<_> = (1..).zip(&phases).map(kept).collect();
    let (_dir, guest) = guest(move |mut agent| {
        let list = list.clone();
        async move {
            agent.welcome().await;
            agent.receive().await;
            agent.send(GuestFrame::Operations(list)).await;
        }
    });
    let running = Evidence::Running { stdout_len: 9, stderr_len: 4 };
    assert_eq!(guest.evidence(1).await.unwrap(), running);
    assert_eq!(guest.evidence(2).await.unwrap(), running);
    assert_eq!(guest.evidence(3).await.unwrap(), Evidence::Exited { status: ExitStatus::Code(3) });
    assert_eq!(guest.evidence(4).await.unwrap(), Evidence::Exited { status: ExitStatus::Signal(9) });
    let Evidence::Failed { reason } = guest.evidence(5).await.unwrap() else { panic!("it had no effect") };
    assert!(reason.contains("/nowhere"), "{reason}");
    assert!(guest.evidence(6).await.unwrap_err().is_breach(), "there is no such signal");
    assert_eq!(guest.evidence(7).await.unwrap(), Evidence::Unknown);
}
