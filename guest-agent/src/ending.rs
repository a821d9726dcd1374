//! The order to end the guest.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::operation::after;

/// When the guest ends. Each order can bring that nearer, none can put it off.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    /// `None` before the first order.
    deadline: watch::Sender<Option<Instant>>,
}

impl Ending {
    /// Orders the end, with so much time for processes to end by themselves.
    pub(crate) fn order(&self, grace: Duration) {
        let ordered = after(Instant::now(), grace);
        self.deadline.send_if_modified(|deadline| {
            let nearer = deadline.is_none_or(|known| ordered < known);
            if nearer {
                *deadline = Some(ordered);
            }
            nearer
        });
    }

    /// Waits for the first order.
    pub(crate) async fn ordered(&self) {
        let mut deadline = self.deadline.subscribe();
        deadline.wait_for(Option::is_some).await.expect("the sender is this one");
    }

    /// Waits until the time of all orders is over.
    pub(crate) async fn over(&self) {
        let mut changes = self.deadline.subscribe();
        loop {
            let deadline = *changes.borrow_and_update();
            let over = async {
                match deadline {
                    // Without time, there is nothing to wait for.
                    Some(deadline) if deadline <= Instant::now() => {}
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = over => return,
                changed = changes.changed() => changed.expect("the sender is this one"),
            }
        }
    }
}
