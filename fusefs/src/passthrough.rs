//! Files that the kernel reads by itself: output files, where the kernel and the rights of this process allow it.
//!
//! All that have a node open at the same time must have the same backing file, which is the kernel's rule.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use fuser::{BackingId, InitFlags, KernelConfig, ReplyOpen};

use crate::node::Node;

/// How many file systems may lie on each other below the mount: an output file on an overlay is the second.
const STACK_DEPTH: u32 = 2;

/// The backing files that are in use.
#[derive(Debug, Default)]
pub(crate) struct Backings {
    possible: AtomicBool,
    ids: Mutex<HashMap<Node, Weak<BackingId>>>,
}

impl Backings {
    /// Asks the kernel for it.
    pub(crate) fn negotiate(&self, config: &mut KernelConfig) {
        let agreed = config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok()
            && config.set_max_stack_depth(STACK_DEPTH).is_ok();
        self.possible.store(agreed, Ordering::Relaxed);
    }

    /// Returns the backing file for a node that is opened; `None` when the kernel shall ask for each part.
    pub(crate) fn of(&self, node: &Node, path: &Path, reply: &ReplyOpen) -> Option<Arc<BackingId>> {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = ids.get(node).and_then(Weak::upgrade) {
            return Some(known);
        }
        if !self.possible.load(Ordering::Relaxed) {
            return None;
        }
        // Nothing was printed yet when there is no file.
        let file = File::open(path).ok()?;
        match reply.open_backing(&file) {
            Ok(id) => {
                let id = Arc::new(id);
                ids.retain(|_, known| known.strong_count() > 0);
                ids.insert(node.clone(), Arc::downgrade(&id));
                Some(id)
            }
            Err(error) => {
                // Without the right to it, it will not be different the next time.
                tracing::debug!(%error, "the kernel does not read output files by itself");
                self.possible.store(false, Ordering::Relaxed);
                None
            }
        }
    }
}
