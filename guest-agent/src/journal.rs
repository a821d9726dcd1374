//! All operations that the agent keeps.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use pyro_protocol::{self as protocol, Exec, Failed, OPERATIONS_MAX, Stage};
use rustix::io::Errno;
use tokio::task::spawn_local;

use crate::children::Children;
use crate::launch;
use crate::operation::{self, Operation};
use crate::tree::Trees;

/// The operations by number, and what is needed to start one.
#[derive(Debug)]
pub(crate) struct Journal {
    operations: RefCell<BTreeMap<u64, Rc<Operation>>>,
    trees: Rc<Trees>,
    children: Rc<Children>,
}

impl Journal {
    pub(crate) fn new(trees: Rc<Trees>, children: Rc<Children>) -> Self {
        Self { operations: RefCell::default(), trees, children }
    }

    /// Returns the operation that `exec` asks for. It is started unless its number is known: a number runs once.
    ///
    /// # Errors
    ///
    /// When too many operations are kept. A full journal refuses instead of dropping an exit that the host has not
    /// recorded.
    pub(crate) fn start(&self, exec: Exec) -> Result<Rc<Operation>, Failed> {
        let mut operations = self.operations.borrow_mut();
        if let Some(known) = operations.get(&exec.op) {
            return Ok(Rc::clone(known));
        }
        if operations.len() >= OPERATIONS_MAX {
            let full = io::Error::from(Errno::AGAIN);
            let message = format!("keep the operation: {OPERATIONS_MAX} are kept");
            return Err(launch::failed(Stage::Admission, &full, message));
        }
        let operation = Operation::new(exec.op);
        operations.insert(exec.op, Rc::clone(&operation));
        let (trees, children) = (Rc::clone(&self.trees), Rc::clone(&self.children));
        spawn_local(operation::run(Rc::clone(&operation), exec, trees, children));
        Ok(operation)
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
