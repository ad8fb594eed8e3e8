//! What a running server impairs, changed from outside while its workers run.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::error::Result;
use crate::impair::{DatagramImpairments, Direction, FlowNumbers, Flows, Line, Netem, Tape, Wire};
use crate::proto::Lines;
use crate::server::Change;
use crate::sys::Waker;

/// What to impair, from one change to the next.
#[derive(Clone, Default)]
pub(super) struct Setting {
    pub(super) impairments: DatagramImpairments,
    /// Flows are numbered anew with each change: the first to come is the first again.
    pub(super) flows: Arc<FlowNumbers>,
    /// What the lines of all workers share, of the way in and of the way out.
    pub(super) wires: [Arc<Wire>; 2],
    /// Where decisions are recorded, or where they come from.
    pub(super) tape: Option<Arc<Tape>>,
}

impl Setting {
    /// These impairments, with a seed if they need one, decided afresh and not recorded.
    pub(super) fn of(impairments: DatagramImpairments) -> Self {
        Self {
            impairments: impairments.seeded(),
            ..Self::default()
        }
    }

    /// The lines of one worker.
    pub(super) fn lines(&self) -> Lines {
        let DatagramImpairments { incoming, outgoing } = &self.impairments;
        let replays = self.tape.as_ref().is_some_and(|tape| tape.is_replaying());
        let doubles = |spec: &Option<Netem>| {
            let duplicates = spec.as_ref().is_some_and(|spec| spec.duplicate.is_some());
            1 + usize::from(duplicates || replays)
        };
        Lines {
            incoming: self.line(incoming, Direction::In, replays),
            outgoing: self.line(outgoing, Direction::Out, replays),
            flows: Flows::new(Arc::clone(&self.flows)),
            copies: doubles(incoming) * doubles(outgoing),
        }
    }

    fn line<T: Clone>(
        &self,
        spec: &Option<Netem>,
        direction: Direction,
        replays: bool,
    ) -> Option<Line<T>> {
        let spec = spec.clone().unwrap_or_default();
        let is_needed = replays || !spec.is_noop();
        let wire = &self.wires[direction as usize];
        is_needed.then(|| Line::new(&spec, direction, self.tape.clone()).on(wire))
    }

    /// As a user would write it, with the seed.
    pub(super) fn text(&self) -> String {
        self.impairments.to_string()
    }
}

/// The setting, with a number by which workers see that it is another one.
pub(super) struct Impairing {
    generation: AtomicU32,
    setting: Mutex<Setting>,
    wakers: Vec<Arc<Waker>>,
    /// The beginning of the workers' one clock.
    pub(super) start: Instant,
}

impl Impairing {
    /// With this setting to begin with; `wakers` are those of the workers.
    pub(super) fn new(setting: Setting, wakers: Vec<Arc<Waker>>) -> Self {
        Self {
            generation: AtomicU32::new(1),
            setting: Mutex::new(setting),
            wakers,
            start: Instant::now(),
        }
    }

    /// Whether the setting is another one than that of `generation`. A load, no more: asked
    /// for each batch.
    pub(super) fn has_changed(&self, generation: u32) -> bool {
        self.generation.load(Ordering::Acquire) != generation
    }

    /// The setting and its number.
    pub(super) fn get(&self) -> (u32, Setting) {
        let setting = self.setting.lock().unwrap_or_else(PoisonError::into_inner);
        (self.generation.load(Ordering::Acquire), setting.clone())
    }

    /// Another setting, from its text.
    pub(super) fn change(&self, change: &Change) -> Result<String> {
        let setting = Setting {
            tape: change.tape.clone(),
            ..Setting::of(change.spec.parse()?)
        };
        let text = setting.text();
        self.set(setting);
        Ok(text)
    }

    /// Another setting from now on: a datagram that is sent after this returned meets it.
    fn set(&self, new: Setting) {
        {
            let mut setting = self.setting.lock().unwrap_or_else(PoisonError::into_inner);
            *setting = new;
            self.generation.fetch_add(1, Ordering::AcqRel);
        }
        // What was held back under the old one is let go now, not when it would be due.
        self.wakers.iter().for_each(|waker| waker.wake());
    }
}
