//! All operations that the agent keeps.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;

use pyro_protocol::{self as protocol, Failed, OPERATIONS_MAX, Stage};
use rustix::io::Errno;
use tokio::task::spawn_local;

use crate::children::Children;
use crate::launch::{self, Request};
use crate::operation::{self, Operation};
use crate::shell::Shell;
use crate::tree::Trees;

/// The operations by number, and what is needed to start one.
#[derive(Debug)]
pub(crate) struct Journal {
    operations: RefCell<BTreeMap<u64, Rc<Operation>>>,
    /// Numbers that the host was told are unknown. It has recorded that nothing ran, and what it sent before on another
    /// connection may still come. The host asks about what it has sent only, so there are few.
    barred: RefCell<BTreeSet<u64>>,
    /// Nothing more is started.
    is_closed: Cell<bool>,
    trees: Rc<Trees>,
    children: Rc<Children>,
}

impl Journal {
    pub(crate) fn new(trees: Rc<Trees>, children: Rc<Children>) -> Self {
        let (operations, barred) = (RefCell::default(), RefCell::default());
        Self { operations, barred, is_closed: Cell::default(), trees, children }
    }

    /// Returns the operation that is asked for. It is started unless its number is known: a number runs once.
    ///
    /// # Errors
    ///
    /// When too many operations are kept, when the guest is about to end, or when the host was told that the number is
    /// unknown. A full journal refuses instead of dropping an exit
    /// that the host has not recorded.
    pub(crate) fn start(&self, request: Request) -> Result<Rc<Operation>, Failed> {
        let mut operations = self.operations.borrow_mut();
        if let Some(known) = operations.get(&request.op()) {
            return Ok(Rc::clone(known));
        }
        if self.is_closed.get() {
            return Err(refused(Errno::SHUTDOWN, "the guest is about to end"));
        }
        if self.barred.borrow().contains(&request.op()) {
            return Err(refused(Errno::CANCELED, "the host was told that it never came"));
        }
        if operations.len() >= OPERATIONS_MAX {
            return Err(refused(Errno::AGAIN, &format!("{OPERATIONS_MAX} are kept")));
        }
        let operation = Operation::new(&request);
        operations.insert(request.op(), Rc::clone(&operation));
        let (trees, children) = (Rc::clone(&self.trees), Rc::clone(&self.children));
        spawn_local(operation::run(Rc::clone(&operation), request, trees, children));
        Ok(operation)
    }

    /// Tells all shells that their terminals are gone.
    pub(crate) fn hang_up(&self) {
        self.operations.borrow().values().filter_map(|operation| operation.shell()).for_each(Shell::hang_up);
    }

    /// Waits until each connection that follows an operation has been sent its end.
    pub(crate) async fn all_told(&self) {
        let operations: Vec<_> = self.operations.borrow().values().cloned().collect();
        for operation in operations {
            operation.all_told().await;
        }
    }

    /// Starts nothing more. What has been started goes on.
    pub(crate) fn close(&self) {
        self.is_closed.set(true);
    }

    /// Returns the operation with this number; `None` when it is not kept, and then it is never started either.
    pub(crate) fn get(&self, op: u64) -> Option<Rc<Operation>> {
        let known = self.operations.borrow().get(&op).cloned();
        if known.is_none() {
            self.barred.borrow_mut().insert(op);
        }
        known
    }

    /// Drops a finished operation and its output.
    pub(crate) fn forget(&self, op: u64) {
        self.operations.borrow_mut().remove(&op);
    }

    /// Returns what is kept, by ascending number.
    pub(crate) fn summary(&self) -> Vec<protocol::Operation> {
        self.operations.borrow().values().map(|operation| operation.summary()).collect()
    }
}

fn refused(error: Errno, why: &str) -> Failed {
    launch::failed(Stage::Admission, &io::Error::from(error), format!("keep the operation: {why}"))
}
