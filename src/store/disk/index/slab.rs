//! Slots for nodes, told by number, and the queues that their links make.

/// No slot.
pub(super) const NONE: u32 = u32::MAX;

/// Slots that are allocated at once. In pieces, because a vector that doubles needs three times its size while it does,
/// and stops everybody while it is copied.
const CHUNK: usize = 1024;

/// Which queue a node is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Small,
    Main,
}

/// One object.
#[derive(Debug)]
pub(super) struct Node<V> {
    /// In halves, which need less alignment than the whole.
    id: [u64; 2],
    pub(super) weight: u64,
    pub(super) value: V,
    younger: u32,
    older: u32,
    /// Hits lately, 0 to 3.
    pub(super) frequency: u8,
    pub(super) place: Place,
}

impl<V> Node<V> {
    pub(super) fn new(id: u128, weight: u64, value: V, place: Place) -> Self {
        let id = [id as u64, (id >> 64) as u64];
        Node { id, weight, value, younger: NONE, older: NONE, frequency: 0, place }
    }

    pub(super) fn id(&self) -> u128 {
        let [low, high] = self.id;
        u128::from(high) << 64 | u128::from(low)
    }
}

/// Aligned, so that a look-up of a small value waits for memory once and not twice.
#[derive(Debug)]
#[repr(align(64))]
enum Slot<V> {
    Used(Node<V>),
    /// With the next free one.
    Free(u32),
}

/// All nodes.
#[derive(Debug)]
pub(super) struct Slab<V> {
    chunks: Vec<Vec<Slot<V>>>,
    /// The first free slot. It leads to the others.
    free: u32,
}

impl<V> Slab<V> {
    pub(super) fn new() -> Self {
        Slab { chunks: Vec::new(), free: NONE }
    }

    pub(super) fn get(&self, at: u32) -> Option<&Node<V>> {
        match self.chunks.get(at as usize / CHUNK)?.get(at as usize % CHUNK)? {
            Slot::Used(node) => Some(node),
            Slot::Free(_) => None,
        }
    }

    pub(super) fn get_mut(&mut self, at: u32) -> Option<&mut Node<V>> {
        match self.slot(at)? {
            Slot::Used(node) => Some(node),
            Slot::Free(_) => None,
        }
    }

    /// The slot of the node; none if all that can be told by number are taken.
    pub(super) fn insert(&mut self, node: Node<V>) -> Option<u32> {
        let at = self.free;
        if let Some(slot) = self.slot(at) {
            if let Slot::Free(next) = std::mem::replace(slot, Slot::Used(node)) {
                self.free = next;
            }
            return Some(at);
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let full = self.chunks.len().checked_sub(1)?;
        let chunk = self.chunks.last_mut()?;
        let at = u32::try_from(full * CHUNK + chunk.len()).ok().filter(|at| *at != NONE)?;
        chunk.push(Slot::Used(node));
        Some(at)
    }

    pub(super) fn remove(&mut self, at: u32) -> Option<Node<V>> {
        let free = self.free;
        let slot = self.slot(at)?;
        if let Slot::Free(_) = slot {
            return None;
        }
        let Slot::Used(node) = std::mem::replace(slot, Slot::Free(free)) else { return None };
        self.free = at;
        Some(node)
    }

    /// The ids in one of the pieces; `None` if there is no such piece.
    pub(super) fn portion(&self, number: usize) -> Option<impl Iterator<Item = u128>> {
        let used = |slot: &Slot<V>| match slot {
            Slot::Used(node) => Some(node.id()),
            Slot::Free(_) => None,
        };
        Some(self.chunks.get(number)?.iter().filter_map(used))
    }

    /// Slots there are, free ones too.
    #[cfg(test)]
    pub(super) fn slots(&self) -> usize {
        self.chunks.iter().map(Vec::len).sum()
    }

    fn slot(&mut self, at: u32) -> Option<&mut Slot<V>> {
        self.chunks.get_mut(at as usize / CHUNK)?.get_mut(at as usize % CHUNK)
    }
}

/// Nodes in the order of their arrival, and what they weigh together.
#[derive(Debug)]
pub(super) struct Queue {
    youngest: u32,
    oldest: u32,
    pub(super) len: usize,
    pub(super) weight: u64,
}

impl Queue {
    pub(super) fn new() -> Self {
        Queue { youngest: NONE, oldest: NONE, len: 0, weight: 0 }
    }

    /// The slot of the oldest node.
    pub(super) fn oldest(&self) -> u32 {
        self.oldest
    }

    /// Takes a node in that is in no queue, as the youngest.
    pub(super) fn push_youngest<V>(&mut self, slab: &mut Slab<V>, at: u32) {
        let Some(node) = slab.get_mut(at) else { return };
        (node.younger, node.older) = (NONE, self.youngest);
        self.len += 1;
        self.weight = self.weight.saturating_add(node.weight);
        match slab.get_mut(self.youngest) {
            Some(next) => next.younger = at,
            None => self.oldest = at,
        }
        self.youngest = at;
    }

    /// Takes a node in that is in no queue, as the oldest.
    pub(super) fn push_oldest<V>(&mut self, slab: &mut Slab<V>, at: u32) {
        let Some(node) = slab.get_mut(at) else { return };
        (node.younger, node.older) = (self.oldest, NONE);
        self.len += 1;
        self.weight = self.weight.saturating_add(node.weight);
        match slab.get_mut(self.oldest) {
            Some(next) => next.older = at,
            None => self.youngest = at,
        }
        self.oldest = at;
    }

    /// Lets a node of this queue go.
    pub(super) fn unlink<V>(&mut self, slab: &mut Slab<V>, at: u32) {
        let Some(node) = slab.get(at) else { return };
        let (younger, older, weight) = (node.younger, node.older, node.weight);
        self.len = self.len.saturating_sub(1);
        self.weight = self.weight.saturating_sub(weight);
        match slab.get_mut(younger) {
            Some(node) => node.older = older,
            None => self.youngest = older,
        }
        match slab.get_mut(older) {
            Some(node) => node.younger = younger,
            None => self.oldest = younger,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Node, Place, Queue, Slab, Slot};
    use crate::store::disk::index::popularity::Counter;

    #[test]
    fn a_slot_of_the_index_is_one_cache_line() {
        assert_eq!((size_of::<Slot<Counter>>(), align_of::<Slot<Counter>>()), (64, 64));
    }

    #[test]
    fn a_slot_that_was_left_is_taken_again() {
        let mut slab = Slab::new();
        let add = |slab: &mut Slab<()>| slab.insert(Node::new(1, 1, (), Place::Small)).unwrap();
        let slots: Vec<u32> = (0..5000).map(|_| add(&mut slab)).collect();
        for round in 0..10 {
            slots.iter().for_each(|at| assert!(slab.remove(*at).is_some(), "round {round}"));
            assert!(slots.iter().all(|at| slab.remove(*at).is_none() && slab.get(*at).is_none()));
            slots.iter().for_each(|_| _ = add(&mut slab));
        }
        assert_eq!(slab.slots(), 5000);
    }

    #[test]
    fn nodes_leave_from_anywhere_and_the_order_stays() {
        let mut slab = Slab::new();
        let mut queue = Queue::new();
        let slots: Vec<u32> = (0..6).map(|id| slab.insert(Node::new(id, 10, (), Place::Main)).unwrap()).collect();
        slots[1..].iter().for_each(|at| queue.push_youngest(&mut slab, *at));
        queue.push_oldest(&mut slab, slots[0]);
        for gone in [slots[0], slots[3], slots[5]] {
            queue.unlink(&mut slab, gone);
        }
        assert_eq!((queue.len, queue.weight), (3, 30));
        for expected in [1, 2, 4] {
            let at = queue.oldest();
            assert_eq!(slab.get(at).unwrap().id(), expected);
            queue.unlink(&mut slab, at);
        }
        assert_eq!((queue.len, queue.weight, queue.oldest()), (0, 0, super::NONE));
    }
}
