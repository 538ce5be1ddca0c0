//! The one thread that links vectors into graphs, in the background.
//!
//! Nothing waits for it: what it has not done yet is scored exactly. It works on the collections in turns, a batch each, and
//! ends when the store is dropped.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use parking_lot::{Mutex, RwLock};

use super::beam::Bits;
use super::coding::learned;
use super::flat::{Batch, Flat, Repair, Work};
use super::graph::Scratch;

/// A collection in memory; nothing until it was read from disk.
#[derive(Debug, Default)]
pub(super) struct Slot {
    pub(super) flat: RwLock<Option<Flat>>,
    is_queued: AtomicBool,
}

/// The way to the thread, which is started when it is first needed. The last drop ends it.
#[derive(Debug, Default)]
pub(super) struct Indexer {
    thread: OnceLock<Option<Thread>>,
    stop: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Thread {
    queue: Mutex<Option<Sender<Arc<Slot>>>>,
    handle: JoinHandle<()>,
}

impl Indexer {
    /// Sees to it that what waits in a collection is linked.
    pub(super) fn wake(&self, slot: &Arc<Slot>) {
        if !slot.has_work() || slot.is_queued.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Some(thread) = self.thread.get_or_init(|| self.start())
            && let Some(queue) = &*thread.queue.lock()
        {
            let _ = queue.send(Arc::clone(slot));
        }
    }

    fn start(&self) -> Option<Thread> {
        let (queue, slots) = channel();
        let stop = Arc::clone(&self.stop);
        let run = move || run(&slots, &stop);
        match std::thread::Builder::new().name("store-indexer".to_owned()).spawn(run) {
            Ok(handle) => Some(Thread { queue: Mutex::new(Some(queue)), handle }),
            Err(cause) => {
                tracing::warn!(%cause, "vectors are searched without an index, because its thread does not start");
                None
            }
        }
    }
}

impl Drop for Indexer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let Some(Some(thread)) = self.thread.take() else { return };
        drop(thread.queue.lock().take());
        if thread.handle.join().is_err() {
            tracing::error!("the thread of the index panicked");
        }
    }
}

impl Slot {
    fn has_work(&self) -> bool {
        self.flat.read().as_ref().is_some_and(Flat::has_work)
    }
}

fn run(slots: &Receiver<Arc<Slot>>, stop: &AtomicBool) {
    let mut scratch = Scratch::default();
    let mut turns = VecDeque::new();
    while let Some(slot) = turns.pop_front().or_else(|| slots.recv().ok()) {
        turns.extend(slots.try_iter());
        if stop.load(Ordering::Acquire) {
            return;
        }
        if step(&slot, &mut scratch, stop) {
            turns.push_back(slot);
            continue;
        }
        slot.is_queued.store(false, Ordering::Release);
        // What came since it was looked at.
        if slot.has_work() && !slot.is_queued.swap(true, Ordering::AcqRel) {
            turns.push_back(slot);
        }
    }
}

/// Does some of the work; tells whether there was any.
pub(super) fn step(slot: &Slot, scratch: &mut Scratch, stop: &AtomicBool) -> bool {
    let work = slot.flat.write().as_mut().map_or(Work::Nothing, Flat::work);
    match work {
        Work::Nothing => return false,
        Work::Learn(sample) => {
            let graph = learned(&sample);
            if let Some(flat) = &mut *slot.flat.write() {
                flat.begin(&sample, graph);
            }
        }
        Work::Link(batch) => {
            link(&batch, scratch, stop);
            if let Some(flat) = &mut *slot.flat.write() {
                flat.settle(&batch);
            }
        }
        Work::Repair(repair) => {
            lead_around(&repair, scratch, stop);
            if !stop.load(Ordering::Acquire)
                && let Some(flat) = &mut *slot.flat.write()
            {
                flat.repaired(&repair);
            }
        }
    }
    true
}

fn link(batch: &Batch, scratch: &mut Scratch, stop: &AtomicBool) {
    for row in &batch.rows {
        if stop.load(Ordering::Acquire) {
            return;
        }
        batch.graph.read().plan(*row, &batch.gone, scratch);
        batch.graph.write().apply(&scratch.plan);
    }
}

fn lead_around(repair: &Repair, scratch: &mut Scratch, stop: &AtomicBool) {
    let mut gone = Bits::default();
    gone.clear(repair.gone.iter().chain(&repair.others).max().map_or(0, |row| *row as usize + 1));
    repair.gone.iter().for_each(|row| _ = gone.set(*row));
    repair.graph.write().move_entry(&gone, &repair.others);
    for row in &repair.others {
        if stop.load(Ordering::Acquire) {
            return;
        }
        repair.graph.read().plan_repair(*row, &gone, scratch);
        if !scratch.plan.is_empty() {
            repair.graph.write().apply(&scratch.plan);
        }
    }
}
