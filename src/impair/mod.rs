//! WHAT TO SPOIL (stub for type checking).
#![allow(missing_docs, dead_code)]
use std::net::SocketAddr;
use std::sync::Arc;
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Netem {}
impl Netem {
    pub fn is_noop(&self) -> bool {
        true
    }
    pub fn uniform_delay(_: std::time::Duration, _: std::time::Duration) -> Self {
        Self {}
    }
}
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DatagramImpairments {
    pub incoming: Option<Netem>,
    pub outgoing: Option<Netem>,
}
impl std::str::FromStr for DatagramImpairments {
    type Err = crate::error::Error;
    fn from_str(_: &str) -> Result<Self, Self::Err> {
        Ok(Self::default())
    }
}
#[derive(Debug, Clone, Copy)]
pub enum Direction {
    In,
    Out,
}
#[derive(Debug, Default)]
pub struct Tape;
#[derive(Debug, Default)]
pub(crate) struct FlowNumbers;
pub(crate) struct Flows;
impl Flows {
    pub(crate) fn new(_: Arc<FlowNumbers>) -> Self {
        Self
    }
    pub(crate) fn number(&mut self, _: SocketAddr) -> u32 {
        0
    }
}
pub(crate) struct Letter<T> {
    pub(crate) data: Vec<u8>,
    pub(crate) tag: T,
}
#[derive(Default)]
pub(crate) struct Fate {
    pub(crate) lost: bool,
    pub(crate) overflow: bool,
    pub(crate) duplicates: u32,
    pub(crate) corrupted: bool,
    pub(crate) delayed: bool,
}
pub(crate) struct Line<T> {
    q: std::collections::VecDeque<Letter<T>>,
}
impl<T: Clone> Line<T> {
    pub(crate) fn new(_: &Netem, _: Direction, _: Option<Arc<Tape>>) -> Self {
        Self {
            q: Default::default(),
        }
    }
    pub(crate) fn put(&mut self, _: u64, _: u32, l: Letter<T>) -> Fate {
        self.q.push_back(l);
        Fate::default()
    }
    pub(crate) fn due(&mut self, _: u64) -> Option<Letter<T>> {
        self.q.pop_front()
    }
    pub(crate) fn next_due_ns(&self) -> Option<u64> {
        None
    }
    pub(crate) fn len(&self) -> usize {
        self.q.len()
    }
    pub(crate) fn take_all(&mut self) -> Vec<Letter<T>> {
        self.q.drain(..).collect()
    }
}
