//! One direction of one connection that is impaired, also while that changes.
//!
//! What came before a change keeps its time; what comes after it meets the new toxics, and
//! does not overtake. So there is a queue of shapers, of which the first sends and the last
//! takes.

use std::collections::VecDeque;

use crate::impair::{Action, Shaper};

/// A direction that bytes take later than they came.
#[derive(Debug)]
pub(super) struct ShaperQueue {
    /// Never empty.
    shapers: VecDeque<Shaper>,
    has_ended: bool,
}

impl ShaperQueue {
    pub(super) fn new(shaper: Shaper) -> Self {
        Self {
            shapers: VecDeque::from([shaper]),
            has_ended: false,
        }
    }

    /// From now on it is done otherwise.
    pub(super) fn change(&mut self, shaper: Shaper) {
        self.shapers.push_back(shaper);
        self.drop_empty();
    }

    /// How many bytes it takes now.
    pub(super) fn room(&self) -> usize {
        let (last, older) = self.shapers.iter().next_back().map_or((0, 0), |last| {
            (last.room(), self.held() - last.held_bytes())
        });
        last.saturating_sub(older)
    }

    /// How many bytes are under way.
    pub(super) fn held(&self) -> usize {
        self.shapers.iter().map(Shaper::held_bytes).sum()
    }

    /// Takes bytes, at most as many as there is room for; how many of them never come out?
    pub(super) fn push(&mut self, now_ns: u64, data: &[u8]) -> usize {
        let Some(last) = self.shapers.back_mut() else {
            return 0;
        };
        let before = last.held_bytes();
        last.push(now_ns, data);
        data.len() - (last.held_bytes() - before)
    }

    /// No more bytes come.
    pub(super) fn end(&mut self, now_ns: u64) {
        self.has_ended = true;
        self.pass_end(now_ns);
    }

    /// The end comes after what is under way from before.
    fn pass_end(&mut self, now_ns: u64) {
        if self.has_ended
            && let [only] = self.shapers.make_contiguous()
        {
            only.end(now_ns);
        }
    }

    /// Those that may leave now.
    pub(super) fn ready(&mut self, now_ns: u64) -> &[u8] {
        self.drop_empty();
        self.shapers
            .front_mut()
            .map_or(&[], |first| first.ready(now_ns))
    }

    /// So many of them have left.
    pub(super) fn consume(&mut self, count: usize) {
        if let Some(first) = self.shapers.front_mut() {
            first.consume(count);
        }
    }

    /// What is to be done with the connection now, each time once, and how many bytes were
    /// under way and never come out because of that. To be asked when nothing is ready.
    pub(super) fn action(&mut self, now_ns: u64) -> Option<(Action, usize)> {
        self.drop_empty();
        self.pass_end(now_ns);
        match self.shapers.make_contiguous() {
            [only] => {
                let held = only.held_bytes();
                only.action(now_ns).map(|action| (action, held))
            }
            // First that out which is on its way from before.
            _ => None,
        }
    }

    /// When something changes by itself.
    pub(super) fn next_due_ns(&self) -> Option<u64> {
        self.shapers.front().and_then(Shaper::next_due_ns)
    }

    /// Nothing is impaired any more, nor under way.
    pub(super) fn is_spent(&self) -> bool {
        self.shapers.len() == 1
            && !self.has_ended
            && self
                .shapers
                .iter()
                .all(|shaper| shaper.is_noop() && shaper.held_bytes() == 0)
    }

    /// Lets go of those that are through.
    fn drop_empty(&mut self) {
        while self.shapers.len() > 1
            && self
                .shapers
                .front()
                .is_some_and(|first| first.held_bytes() == 0)
        {
            self.shapers.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::impair::{Direction, Toxics};

    const MS: u64 = 1_000_000;

    fn shaper(toxics: &str) -> Shaper {
        Shaper::new(&toxics.parse::<Toxics>().unwrap(), Direction::Out, 0)
    }

    #[test]
    fn what_is_held_keeps_its_time_and_is_not_overtaken() {
        let mut queue = ShaperQueue::new(shaper("latency 100ms"));
        assert_eq!(queue.push(0, b"slow"), 0);
        queue.change(shaper(""));
        queue.push(10 * MS, b"quick");
        assert_eq!(queue.ready(99 * MS), b"");
        assert_eq!(queue.next_due_ns(), Some(100 * MS));
        assert!(!queue.is_spent());
        assert_eq!(queue.ready(100 * MS), b"slow");
        queue.consume(2);
        assert_eq!(queue.ready(100 * MS), b"ow");
        queue.consume(2);
        assert_eq!(queue.ready(100 * MS), b"quick");
        queue.consume(5);
        assert_eq!((queue.held(), queue.is_spent()), (0, true));
    }

    #[test]
    fn an_end_comes_after_what_is_under_way_under_whatever_toxics() {
        let mut queue = ShaperQueue::new(shaper("latency 100ms"));
        queue.push(0, b"last");
        queue.end(0);
        queue.change(shaper("slow_close 50ms"));
        assert_eq!(queue.action(99 * MS), None);
        assert_eq!(queue.ready(100 * MS), b"last");
        queue.consume(4);
        assert_eq!(queue.action(100 * MS), None);
        assert_eq!(queue.next_due_ns(), Some(150 * MS));
        assert_eq!(queue.action(149 * MS), None);
        assert_eq!(queue.action(150 * MS), Some((Action::Finish, 0)));
    }

    #[test]
    fn what_is_dropped_is_told() {
        let mut queue = ShaperQueue::new(shaper("limit_data 3"));
        assert_eq!(queue.push(0, b"abcdef"), 3);
        assert_eq!(queue.ready(0), b"abc");
        queue.consume(3);
        assert_eq!(queue.action(0), Some((Action::Close, 0)));
        assert_eq!(queue.push(0, b"more"), 4);
        queue.change(shaper(""));
        assert_eq!(queue.push(0, b"again"), 0);
    }

    #[test]
    fn both_share_the_room_of_one() {
        let mut queue = ShaperQueue::new(shaper("latency 1s"));
        let most = queue.room();
        queue.push(0, &[0; 1000]);
        queue.change(shaper("latency 2s"));
        assert_eq!(queue.room(), most - 1000);
        queue.push(0, &[0; 1000]);
        assert_eq!((queue.room(), queue.held()), (most - 2000, 2000));
    }
}
