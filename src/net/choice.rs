//! Which way to ask the kernel, as far as that is a matter of choice.

/// Which way a server, or a client's driver, asks the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EngineChoice {
    /// The best that this system has.
    #[default]
    Auto,
    /// Many datagrams or connections a call; Linux only.
    Batch,
    /// What every Unix has.
    Portable,
}
