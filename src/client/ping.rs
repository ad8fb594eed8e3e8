//! A client that measures round trips to an echo server over UDP.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::driver::Driver;
use super::ends::Ends;
use super::patience::Patience;
use crate::address::Family;
use crate::error::Result;
use crate::meter::pinger::{Pinger, Plan, Watched};
use crate::net::choice::EngineChoice;
use crate::socket::{SocketOptions, SocketReport};
use crate::sys::thread::sharpen_timers;

/// Sends probes to one peer on its caller's thread, while others look at what came back.
#[derive(Debug)]
pub struct PingClient {
    driver: Driver,
    watched: Arc<Watched>,
    pinger: Mutex<Option<Pinger>>,
    has_kernel_times: bool,
}

impl PingClient {
    /// Resolves `host`, IPv4 first, and connects; nothing is sent yet. `room` samples are kept until
    /// they are taken. The kernel's times are used where `plan` wants them and the system has them.
    ///
    /// # Errors
    ///
    /// A name that does not resolve, an option that the kernel refuses, no route.
    pub fn connect(
        host: &str,
        port: u16,
        family: Family,
        options: &SocketOptions,
        plan: Plan,
        room: usize,
    ) -> Result<Self> {
        let driver = Driver::connect(host, port, family, options)?;
        let driver = driver.with_engine(EngineChoice::Portable)?;
        let has_kernel_times = plan.wants_kernel && driver.report_times().is_ok();
        let pinger = Pinger::new(plan, Driver::to_peer(), room);
        Ok(Self {
            watched: pinger.watched(),
            pinger: Mutex::new(Some(pinger)),
            driver,
            has_kernel_times,
        })
    }

    /// Who talks to whom.
    pub fn ends(&self) -> &Ends {
        self.driver.ends()
    }

    /// What each socket option was to be and is.
    pub fn report(&self) -> SocketReport {
        self.driver.report()
    }

    /// Whether the kernel tells when datagrams leave and arrive (SO_TIMESTAMPING).
    pub fn has_kernel_times(&self) -> bool {
        self.has_kernel_times
    }

    /// Nothing that is sent may be cut on its way (DF).
    ///
    /// # Errors
    ///
    /// Where the system cannot forbid it.
    pub fn forbid_fragments(&self) -> Result<()> {
        self.driver.forbid_fragments()
    }

    /// What others see of the run.
    pub fn watched(&self) -> &Arc<Watched> {
        &self.watched
    }

    /// Sends all probes, and waits for their replies; the second call does nothing. Sleeps of the
    /// calling thread are precise from then on (PR_SET_TIMERSLACK).
    ///
    /// # Errors
    ///
    /// The socket's, but for what the network said of probes, which is counted; a state error when
    /// the caller gave up.
    pub fn run(&self, patience: Patience<'_>) -> Result<()> {
        let pinger = self.pinger.lock();
        let Some(mut pinger) = pinger.unwrap_or_else(PoisonError::into_inner).take() else {
            return Ok(());
        };
        // The kernel rounds sleeps up by 50 us, unless told otherwise.
        sharpen_timers(Duration::from_nanos(1));
        let ran = self.driver.run(&mut pinger, Pinger::is_done, patience);
        self.watched.end();
        ran
    }
}
