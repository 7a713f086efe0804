//! S3-FIFO: which object has to go when there is no room.
//!
//! After Yang, Zhang, Qiu, Yue and Rashmi, "FIFO queues are all you need for cache eviction" (SOSP 2023). Most objects are
//! never asked for again, so each one begins in a small queue. At its end it moves to the main queue if it was asked for
//! at least twice meanwhile, and else it is evicted, and its hash remembered: if it comes back soon, it begins in the
//! main queue. At the end of the main queue, what was asked for since it was there last goes round again. A hit only
//! raises a counter, and a scan passes through the small queue without touching what is in the main one.
//!
//! Here objects have weights, which the paper leaves open. What is more than the whole share of the small queue must not
//! be judged before anybody could ask for it: the small queue's oldest object is judged when *what came after it* weighs
//! as much as the share. For objects of one weight that is the paper's rule.

use super::ghost::Ghost;
use super::slab::{NONE, Node, Place, Queue, Slab};
use super::table::Table;
use std::hash::{BuildHasher, RandomState};

/// The small queue's part of the capacity: one in so many. The paper's choice.
const SMALL: u64 = 10;

/// Hits that are counted at most. The paper's two bits.
const MOST: u8 = 3;

/// Hits in the small queue that lead to the main one. The paper's choice: the first follows the insertion too often.
const PROMOTING: u8 = 2;

/// Objects that one eviction may let go round again. In a main queue where everything is asked for it would be the
/// whole queue three times; the least asked for of so many goes instead.
const LOOKED_AT: usize = 256;

/// What was evicted.
#[derive(Debug, PartialEq, Eq)]
pub struct Evicted<V> {
    /// As inserted.
    pub id: u128,
    /// As inserted.
    pub weight: u64,
    /// As inserted.
    pub value: V,
}

/// Objects by id, each with a weight and a value, and the order of their eviction. It evicts when it is told to and not
/// by itself: see [`S3Fifo::is_over`].
#[derive(Debug)]
pub struct S3Fifo<V> {
    slab: Slab<V>,
    /// Slots by hash of the id.
    slots: Table,
    small: Queue,
    main: Queue,
    ghost: Ghost,
    capacity: u64,
    /// Ids come from what clients send. Nobody shall be able to choose many that meet in one place.
    seed: [u64; 2],
}

impl<V> S3Fifo<V> {
    /// Nothing yet, of a capacity in the unit of the weights.
    pub fn new(capacity: u64) -> Self {
        let random = RandomState::new();
        S3Fifo {
            slab: Slab::new(),
            slots: Table::new(),
            small: Queue::new(),
            main: Queue::new(),
            ghost: Ghost::new(),
            capacity,
            seed: [random.hash_one(0), random.hash_one(1)],
        }
    }

    /// Adds an object. One that is there gets the new weight and value, keeps its place and its hits, and its old value
    /// is returned.
    pub fn insert(&mut self, id: u128, weight: u64, value: V) -> Option<V> {
        let hash = self.hash(id);
        if let Some(at) = self.find(hash, id) {
            self.weigh(at, weight);
            return Some(std::mem::replace(&mut self.slab.get_mut(at)?.value, value));
        }
        let place = if self.ghost.take(hash) { Place::Main } else { Place::Small };
        if let Some(at) = self.add(hash, Node::new(id, weight, value, place)) {
            let (queue, slab) = self.queue(place);
            queue.push_youngest(slab, at);
        }
        None
    }

    /// Adds an object as the oldest one, unless it is there; says whether it did. Objects that are known from earlier,
    /// added youngest first, come to be as if they had stayed: the youngest in the small queue, the others in the main one.
    pub fn insert_oldest(&mut self, id: u128, weight: u64, value: V) -> bool {
        let hash = self.hash(id);
        if self.find(hash, id).is_some() {
            return false;
        }
        let place = if self.small.weight < self.share() { Place::Small } else { Place::Main };
        let Some(at) = self.add(hash, Node::new(id, weight, value, place)) else { return false };
        let (queue, slab) = self.queue(place);
        queue.push_oldest(slab, at);
        true
    }

    /// The value, with a hit counted.
    pub fn touch(&mut self, id: u128) -> Option<&mut V> {
        self.credit(id, 1)
    }

    /// The value, with so many hits counted.
    pub fn credit(&mut self, id: u128, hits: u32) -> Option<&mut V> {
        let at = self.find(self.hash(id), id)?;
        let node = self.slab.get_mut(at)?;
        node.frequency = MOST.min(node.frequency.saturating_add(u8::try_from(hits).unwrap_or(MOST)));
        Some(&mut node.value)
    }

    /// The value, without a hit.
    pub fn get(&self, id: u128) -> Option<&V> {
        Some(&self.slab.get(self.find(self.hash(id), id)?)?.value)
    }

    /// Whether it is there. Not a hit.
    pub fn contains(&self, id: u128) -> bool {
        self.find(self.hash(id), id).is_some()
    }

    /// What it weighs.
    pub fn weight(&self, id: u128) -> Option<u64> {
        Some(self.slab.get(self.find(self.hash(id), id)?)?.weight)
    }

    /// Changes what an object weighs; says whether it is there.
    pub fn set_weight(&mut self, id: u128, weight: u64) -> bool {
        let found = self.find(self.hash(id), id);
        found.inspect(|at| self.weigh(*at, weight)).is_some()
    }

    /// Takes an object out. It is not remembered.
    pub fn remove(&mut self, id: u128) -> Option<Evicted<V>> {
        let hash = self.hash(id);
        let at = self.find(hash, id)?;
        self.take(hash, at)
    }

    /// Takes out the object that is worth least; none if there is none.
    pub fn evict_one(&mut self) -> Option<Evicted<V>> {
        // The least asked for of those that went round.
        let mut least = (u8::MAX, NONE);
        for _ in 0..LOOKED_AT {
            let judged = if self.small_is_due() { self.small.oldest() } else { self.main.oldest() };
            let node = self.slab.get(judged)?;
            let (place, frequency) = (node.place, node.frequency);
            match place {
                Place::Small if frequency >= PROMOTING => self.go_on(judged, 0),
                Place::Main if frequency > 0 => {
                    if frequency < least.0 {
                        least = (frequency, judged);
                    }
                    self.go_on(judged, frequency - 1);
                }
                Place::Small | Place::Main => return self.evict(judged),
            }
        }
        let any = if self.main.len > 0 { self.main.oldest() } else { self.small.oldest() };
        self.evict(if least.1 == NONE { any } else { least.1 })
    }

    /// It weighs more than it may. The caller evicts until it does not, when it has seen to what that takes.
    pub fn is_over(&self) -> bool {
        self.used() > self.capacity
    }

    /// What all objects weigh together.
    pub fn used(&self) -> u64 {
        self.small.weight.saturating_add(self.main.weight)
    }

    /// The ids of a part of all objects; `None` if there is no part of that number.
    pub fn portion(&self, number: usize) -> Option<Vec<u128>> {
        self.slab.portion(number).map(Iterator::collect)
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.small.len + self.main.len
    }

    /// There is no object.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What all objects may weigh together.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Changes what they may weigh. Evicts nothing.
    pub fn set_capacity(&mut self, capacity: u64) {
        self.capacity = capacity;
    }

    fn share(&self) -> u64 {
        self.capacity / SMALL
    }

    /// Whether the oldest of the small queue had its time there, or nothing else is left.
    fn small_is_due(&self) -> bool {
        let Some(oldest) = self.slab.get(self.small.oldest()) else { return false };
        self.main.len == 0 || self.small.weight.saturating_sub(oldest.weight) >= self.share()
    }

    /// Moves a node to the young end of the main queue.
    fn go_on(&mut self, at: u32, frequency: u8) {
        let Some(node) = self.slab.get_mut(at) else { return };
        node.frequency = frequency;
        let from = std::mem::replace(&mut node.place, Place::Main);
        let (queue, slab) = self.queue(from);
        queue.unlink(slab, at);
        self.main.push_youngest(&mut self.slab, at);
    }

    fn evict(&mut self, at: u32) -> Option<Evicted<V>> {
        let node = self.slab.get(at)?;
        let hash = self.hash(node.id());
        if node.place == Place::Small {
            // As many as the main queue holds, or will hold once it has its part.
            let most = (self.len() as u64 * (SMALL - 1) / SMALL) as usize;
            self.ghost.remember(hash, most);
        }
        self.take(hash, at)
    }

    fn take(&mut self, hash: u64, at: u32) -> Option<Evicted<V>> {
        let (queue, slab) = self.queue(self.slab.get(at)?.place);
        queue.unlink(slab, at);
        self.slots.remove(hash, |slot| slot == at);
        let node = self.slab.remove(at)?;
        Some(Evicted { id: node.id(), weight: node.weight, value: node.value })
    }

    fn weigh(&mut self, at: u32, weight: u64) {
        let Some(node) = self.slab.get_mut(at) else { return };
        let old = std::mem::replace(&mut node.weight, weight);
        let place = node.place;
        let queue = self.queue(place).0;
        queue.weight = queue.weight.saturating_sub(old).saturating_add(weight);
    }

    /// A slot for the node, which is in no queue yet.
    fn add(&mut self, hash: u64, node: Node<V>) -> Option<u32> {
        let at = self.slab.insert(node)?;
        self.slots.insert(hash, at);
        Some(at)
    }

    fn find(&self, hash: u64, id: u128) -> Option<u32> {
        self.slots.find(hash, |slot| self.slab.get(slot).is_some_and(|node| node.id() == id))
    }

    fn queue(&mut self, place: Place) -> (&mut Queue, &mut Slab<V>) {
        match place {
            Place::Small => (&mut self.small, &mut self.slab),
            Place::Main => (&mut self.main, &mut self.slab),
        }
    }

    fn hash(&self, id: u128) -> u64 {
        mix(id, self.seed)
    }
}

/// Both halves of the id multiplied and folded, each with its part of the seed.
fn mix(id: u128, [low, high]: [u64; 2]) -> u64 {
    let product = u128::from(id as u64 ^ low) * u128::from((id >> 64) as u64 ^ high);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
#[path = "s3fifo_tests.rs"]
mod tests;
