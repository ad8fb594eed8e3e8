//! What of a stream is one request.

use std::fmt;
use std::str::FromStr;

use super::lines::{LineEnd, TooLong, next_line};
use crate::error::{Error, Result};

/// What of a stream is one request. Its text form is read back as itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Framing {
    /// `chunks`: what one read brought, which says nothing about how it was sent.
    Chunks,
    /// `lines`: a line, ended by LF or by CR LF; the last may lack its end.
    #[default]
    Lines,
    /// `records=N`: so many bytes, at least 1; what is left at the end is none.
    Records(usize),
}

impl FromStr for Framing {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let records = |text: &str| text.strip_prefix("records=")?.parse().ok();
        match text {
            "chunks" => Ok(Framing::Chunks),
            "lines" => Ok(Framing::Lines),
            _ => match records(text) {
                Some(length) if length > 0 => Ok(Framing::Records(length)),
                _ => Err(Error::argument(
                    "cut the stream into",
                    format!("{text:?}"),
                    "it is one of chunks, lines, records=N (bytes, at least 1)",
                )),
            },
        }
    }
}

impl fmt::Display for Framing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Framing::Chunks => f.write_str("chunks"),
            Framing::Lines => f.write_str("lines"),
            Framing::Records(length) => write!(f, "records={length}"),
        }
    }
}

/// One request as it lies in the bytes that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Bytes of the request, from the start.
    pub(crate) length: usize,
    /// Bytes that it takes with what ends it.
    pub(crate) taken: usize,
    /// What ended it, and ends the reply too.
    pub(crate) end: LineEnd,
}

/// The cutter of one stream: says where its requests end, and holds none of its bytes.
#[derive(Debug)]
pub(crate) struct Cutter {
    framing: Framing,
    /// Most bytes of a line without its end.
    most: usize,
    /// Bytes of an unfinished line that were looked at.
    seen: usize,
}

impl Cutter {
    pub(crate) fn new(framing: Framing, most: usize) -> Self {
        Self {
            framing,
            most,
            seen: 0,
        }
    }

    /// How many bytes it may take to know a request.
    pub(crate) fn longest(&self) -> usize {
        match self.framing {
            Framing::Chunks => 1,
            Framing::Records(length) => length,
            Framing::Lines => self.most.saturating_add(2),
        }
    }

    /// The next request of `data`, which is what came and was not cut off yet: after `None`
    /// it has to grow, after a cut to begin behind it.
    ///
    /// # Errors
    ///
    /// When a line is longer than lines may be: there is no telling what comes after it.
    pub(crate) fn next(&mut self, data: &[u8]) -> std::result::Result<Option<Cut>, TooLong> {
        let whole = |length| Cut {
            length,
            taken: length,
            end: LineEnd::None,
        };
        match self.framing {
            Framing::Chunks => Ok((!data.is_empty()).then(|| whole(data.len()))),
            Framing::Records(length) => Ok((data.len() >= length).then(|| whole(length))),
            Framing::Lines => {
                let line = next_line(data, self.seen, self.most)?;
                self.seen = if line.is_none() { data.len() } else { 0 };
                Ok(line.map(|(length, end)| Cut {
                    length,
                    taken: length + end.bytes().len(),
                    end,
                }))
            }
        }
    }

    /// What is left of a stream that has ended, if that is a request: an unfinished line is.
    pub(crate) fn last(&mut self, data: &[u8]) -> Option<Cut> {
        (self.framing == Framing::Lines && !data.is_empty()).then_some(Cut {
            length: data.len(),
            taken: data.len(),
            end: LineEnd::None,
        })
    }
}

/// Cuts a stream that comes in pieces of these lengths and one of what is left; panics
/// unless the requests are those of the whole stream.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn laws_hold_for(
    framing: Framing,
    most: usize,
    cuts: impl IntoIterator<Item = usize>,
    stream: &[u8],
) {
    let mut cutter = Cutter::new(framing, most);
    let (mut start, mut end) = (0, 0);
    let mut requests = Vec::new();
    let mut is_broken = false;
    'pieces: for cut in cuts.into_iter().chain([usize::MAX]) {
        end += cut.min(stream.len() - end);
        loop {
            match cutter.next(&stream[start..end]) {
                Ok(Some(cut)) => {
                    assert!(cut.taken > 0 && cut.length <= cut.taken);
                    assert!(start + cut.taken <= end);
                    requests.push((&stream[start..start + cut.length], cut.end));
                    start += cut.taken;
                }
                Ok(None) => break,
                Err(TooLong) => {
                    is_broken = true;
                    break 'pieces;
                }
            }
        }
        // What waits for more is never longer than one line and its end.
        assert!(framing != Framing::Lines || end - start <= most + 1);
    }
    if !is_broken && let Some(cut) = cutter.last(&stream[start..]) {
        requests.push((&stream[start..start + cut.length], cut.end));
    }
    match framing {
        Framing::Chunks => {
            let all: Vec<u8> = requests
                .iter()
                .flat_map(|(data, _)| *data)
                .copied()
                .collect();
            assert_eq!(all, stream);
        }
        Framing::Records(length) => {
            let wanted: Vec<_> = stream.chunks_exact(length).collect();
            let got: Vec<_> = requests.iter().map(|(data, _)| *data).collect();
            assert_eq!(got, wanted);
        }
        Framing::Lines => {
            let (wanted, wants_error) = lines_of_whole(stream, most);
            assert_eq!(requests, wanted);
            assert_eq!(is_broken, wants_error);
        }
    }
}

/// The lines of a whole stream, by another way: up to the first that is too long.
#[cfg(any(test, feature = "fuzzing"))]
fn lines_of_whole(stream: &[u8], most: usize) -> (Vec<(&[u8], LineEnd)>, bool) {
    let mut lines = Vec::new();
    for line in stream.split_inclusive(|byte| *byte == b'\n') {
        let (content, end) = if let Some(content) = line.strip_suffix(b"\r\n") {
            (content, LineEnd::CrLf)
        } else if let Some(content) = line.strip_suffix(b"\n") {
            (content, LineEnd::Lf)
        } else {
            (line, LineEnd::None)
        };
        // A CR at the very end may have been the first half of a line's end.
        let is_half = end == LineEnd::None && content.len() == most + 1 && content.ends_with(b"\r");
        if content.len() > most && !is_half {
            return (lines, true);
        }
        lines.push((content, end));
    }
    (lines, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framing() -> impl Strategy<Value = Framing> {
        prop_oneof![
            Just(Framing::Lines),
            Just(Framing::Chunks),
            (1..20usize).prop_map(Framing::Records),
        ]
    }

    proptest! {
        #[test]
        fn requests_do_not_depend_on_how_the_stream_came(
            // Letters that make lines, and others.
            stream in prop::collection::vec(
                prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'a'), any::<u8>()], 0..300,
            ),
            cuts in prop::collection::vec(0..40usize, 0..50),
            framing in framing(),
            most in 0..30usize,
        ) {
            laws_hold_for(framing, most, cuts, &stream);
        }

        #[test]
        fn what_is_printed_is_read_back(framing in framing()) {
            prop_assert_eq!(framing.to_string().parse::<Framing>().unwrap(), framing);
        }
    }

    #[test]
    fn what_is_no_framing_is_refused_with_all_that_are() {
        for text in ["", "line", "records", "records=0", "records=-1"] {
            let error = text.parse::<Framing>().unwrap_err();
            assert!(error.to_string().contains("records=N"), "{error}");
        }
    }

    #[test]
    fn a_line_is_too_long_by_its_content_alone() {
        let next = |data: &[u8]| Cutter::new(Framing::Lines, 3).next(data);
        let cut = |length, taken, end| Ok(Some(Cut { length, taken, end }));
        assert_eq!(next(b"abc\n"), cut(3, 4, LineEnd::Lf));
        assert_eq!(next(b"abc\r\n"), cut(3, 5, LineEnd::CrLf));
        assert_eq!(next(b"abc"), Ok(None));
        assert_eq!(next(b"abc\r"), Ok(None), "its end may be half here");
        for data in [&b"abcd"[..], b"abcd\n", b"abc\r\r", b"abc\rd"] {
            assert_eq!(next(data), Err(TooLong), "{}", data.escape_ascii());
        }
    }
}
