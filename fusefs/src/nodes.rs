//! The inode numbers of nodes.
//!
//! A node has one number from the first time that somebody sees it until it is gone. The kernel counts what it was told
//! and says when it forgets; a node that is gone keeps its number until then, so that no other gets it.

use std::collections::HashMap;

use crate::node::Node;

/// The number of the top, by the kernel's rules.
const ROOT: u64 = 1;

/// Numbers of nodes.
#[derive(Debug)]
pub(crate) struct Nodes {
    by_number: HashMap<u64, Entry>,
    by_node: HashMap<Node, u64>,
    next: u64,
}

#[derive(Debug)]
struct Entry {
    node: Node,
    /// How often the kernel was told of it since it forgot it.
    lookups: u64,
}

impl Nodes {
    pub(crate) fn new() -> Self {
        let root = Entry { node: Node::Root, lookups: 1 };
        Self {
            by_number: HashMap::from([(ROOT, root)]),
            by_node: HashMap::from([(Node::Root, ROOT)]),
            next: ROOT + 1,
        }
    }

    /// Returns the node of a number; `None` for one that was forgotten.
    pub(crate) fn node(&self, number: u64) -> Option<&Node> {
        self.by_number.get(&number).map(|entry| &entry.node)
    }

    /// Returns the number that a node has; `None` when nobody has seen it.
    pub(crate) fn known(&self, node: &Node) -> Option<u64> {
        self.by_node.get(node).copied()
    }

    /// Returns the number of a node, which gets one if it has none.
    pub(crate) fn number(&mut self, node: &Node) -> u64 {
        if let Some(number) = self.by_node.get(node) {
            return *number;
        }
        let number = self.next;
        self.next += 1;
        self.by_number.insert(number, Entry { node: node.clone(), lookups: 0 });
        self.by_node.insert(node.clone(), number);
        number
    }

    /// Returns the number of a node that the kernel is told of.
    pub(crate) fn tell(&mut self, node: &Node) -> u64 {
        let number = self.number(node);
        if let Some(entry) = self.by_number.get_mut(&number) {
            entry.lookups += 1;
        }
        number
    }

    /// The kernel forgets a number, so often.
    pub(crate) fn forget(&mut self, number: u64, lookups: u64) {
        let Some(entry) = self.by_number.get_mut(&number) else { return };
        entry.lookups = entry.lookups.saturating_sub(lookups);
        if entry.lookups == 0 && self.by_node.get(&entry.node) != Some(&number) {
            self.by_number.remove(&number);
        }
    }

    /// Nodes are gone: should they come again, they are others.
    pub(crate) fn remove(&mut self, is_gone: impl Fn(&Node) -> bool) {
        self.by_node.retain(|node, _| !is_gone(node));
        let Self { by_number, by_node, .. } = self;
        by_number.retain(|number, entry| entry.lookups > 0 || by_node.get(&entry.node) == Some(number));
    }
}

#[cfg(test)]
mod tests {
    use pyro_core::WorkspaceId;

    use super::*;

    /// Catches a number that another node gets while a program still holds it, and numbers that are kept for ever.
    #[test]
    fn a_number_lives_as_long_as_its_node_or_the_kernels_memory_of_it() {
        let mut nodes = Nodes::new();
        let node = Node::Workspace(WorkspaceId::from_bytes([1; 6]));
        let number = nodes.tell(&node);
        assert_eq!(nodes.tell(&node), number);
        nodes.forget(number, 2);
        assert_eq!(nodes.number(&node), number, "it is still there");
        assert_eq!(nodes.tell(&node), number);
        nodes.remove(|gone| *gone == node);
        assert_eq!(nodes.node(number), Some(&node));
        let other = nodes.number(&node);
        assert_ne!(other, number);
        nodes.forget(number, 1);
        assert_eq!((nodes.node(number), nodes.node(other)), (None, Some(&node)));
        nodes.remove(|gone| *gone == node);
        assert_eq!((nodes.by_number.len(), nodes.by_node.len()), (1, 1));
    }
}
