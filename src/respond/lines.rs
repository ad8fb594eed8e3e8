//! A stream cut into lines, however it came in pieces.
//!
//! A line ends with LF, or with CR LF (RFC 5198, appendix C); a CR elsewhere belongs to it.
//! Lines have a longest length, so that a peer that never ends one takes no more memory.

/// What ended a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineEnd {
    /// Nothing: it is the last one of a stream, or no line at all.
    None,
    /// `\n`
    Lf,
    /// `\r\n`
    CrLf,
}

impl LineEnd {
    /// Its bytes.
    pub fn bytes(self) -> &'static [u8] {
        match self {
            LineEnd::None => b"",
            LineEnd::Lf => b"\n",
            LineEnd::CrLf => b"\r\n",
        }
    }
}

/// A line is longer than lines may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

/// Finds the next line of `data`, of which the first `seen` bytes are known to hold no LF:
/// its length without its end, and the end; `None`: there is no whole line yet.
///
/// # Errors
///
/// When the line is, or can only become, longer than `most` bytes.
pub(super) fn next_line(
    data: &[u8],
    seen: usize,
    most: usize,
) -> Result<Option<(usize, LineEnd)>, TooLong> {
    let Some(lf) = data[seen..].iter().position(|byte| *byte == b'\n') else {
        return if content(data).len() > most {
            Err(TooLong)
        } else {
            Ok(None)
        };
    };
    let line = &data[..seen + lf];
    let content = content(line);
    if content.len() > most {
        return Err(TooLong);
    }
    let end = if content.len() < line.len() {
        LineEnd::CrLf
    } else {
        LineEnd::Lf
    };
    Ok(Some((content.len(), end)))
}

/// Without a CR at the end, which may be half of the line's end.
fn content(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}
