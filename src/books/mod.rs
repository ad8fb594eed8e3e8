//! What is counted, and how it is told: tables of names, and blocks of counters that one thread
//! writes and anyone may read.

pub(crate) mod block;
pub(crate) mod tcp;
pub(crate) mod udp;

pub use udp::DropReason;

/// How a figure behaves from one moment to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// How many there were: it only grows.
    Counter,
    /// How many there are now.
    Gauge,
}

/// A figure that a server tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    /// Its name, with the unit.
    pub(crate) name: &'static str,
    /// How it behaves.
    pub(crate) kind: Kind,
}

impl Row {
    pub(crate) fn counter(name: &'static str) -> Self {
        let kind = Kind::Counter;
        Self { name, kind }
    }

    pub(crate) fn gauge(name: &'static str) -> Self {
        let kind = Kind::Gauge;
        Self { name, kind }
    }
}

/// The figures of several workers together, by name.
pub(crate) struct Totals {
    pub(crate) counters: Vec<(&'static str, u64)>,
    /// Why datagrams were dropped, or connections ended.
    pub(crate) reasons: Vec<(&'static str, u64)>,
}

/// Declares an enum of what is counted, each with the name by which it is counted and logged.
macro_rules! counted {
    (
        $(#[$meta:meta])*
        $vis:vis enum $enum:ident {
            $($(#[$doc:meta])* $variant:ident: $name:literal,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $vis enum $enum {
            $($(#[$doc])* $variant,)*
        }

        impl $enum {
            /// All, in the order of their numbers.
            $vis const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// The name by which it is counted and logged.
            $vis const fn name(self) -> &'static str {
                [$($name),*][self as usize]
            }
        }
    };
}
pub(crate) use counted;
