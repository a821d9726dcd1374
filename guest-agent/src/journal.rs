//! All operations that the agent keeps.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
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
    /// Nothing more is started.
    is_closed: Cell<bool>,
    trees: Rc<Trees>,
    children: Rc<Children>,
}

impl Journal {
    pub(crate) fn new(trees: Rc<Trees>, children: Rc<Children>) -> Self {
        Self { operations: RefCell::default(), is_closed: Cell::default(), trees, children }
    }

    /// Returns the operation that is asked for. It is started unless its number is known: a number runs once.
    ///
    /// # Errors
    ///
    /// When too many operations are kept, or the guest is about to end. A full journal refuses instead of dropping an exit
    /// that the host has not recorded.
    pub(crate) fn start(&self, request: Request) -> Result<Rc<Operation>, Failed> {
        let mut operations = self.operations.borrow_mut();
        if let Some(known) = operations.get(&request.op()) {
            return Ok(Rc::clone(known));
        }
        if self.is_closed.get() {
            return Err(refused(Errno::SHUTDOWN, "the guest is about to end"));
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

    /// Returns the operation with this number; `None` when it is not kept.
    pub(crate) fn get(&self, op: u64) -> Option<Rc<Operation>> {
        self.operations.borrow().get(&op).cloned()
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
