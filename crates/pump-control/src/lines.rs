//! Lines out of a stream of bytes, with a limit.

/// Collects bytes and gives out whole lines.
#[derive(Debug)]
pub struct Lines {
    buffer: Vec<u8>,
    limit: usize,
    skipping: bool,
}

/// What came out of the stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// A whole line, without its newline.
    Whole(Vec<u8>),
    /// A line that grew beyond the limit. The rest of it is skipped up to the next newline.
    Oversized,
}

impl Lines {
    /// Lines of at most `limit` bytes, the newline included.
    pub fn new(limit: usize) -> Self {
        Self { buffer: Vec::new(), limit, skipping: false }
    }

    /// Takes what was read and returns the lines that it completes.
    pub fn push(&mut self, mut bytes: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        while !bytes.is_empty() {
            let (part, ended) = match bytes.iter().position(|&byte| byte == b'\n') {
                Some(end) => (&bytes[..end], true),
                None => (bytes, false),
            };
            bytes = &bytes[part.len() + usize::from(ended)..];
            if !self.skipping {
                if self.buffer.len() + part.len() < self.limit {
                    self.buffer.extend_from_slice(part);
                } else {
                    self.buffer = Vec::new();
                    self.skipping = true;
                    lines.push(Line::Oversized);
                }
            }
            if ended {
                if !self.skipping {
                    lines.push(Line::Whole(std::mem::take(&mut self.buffer)));
                }
                self.skipping = false;
            }
        }
        lines
    }

    /// What was read after the last newline, for whoever reads on. Nothing while an oversized line is
    /// skipped.
    pub fn unfinished(&self) -> &[u8] {
        &self.buffer
    }

    /// What was read after the last newline, for a stream that has ended.
    pub fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }
}

/// A message as one line of JSON, its newline included.
///
/// # Panics
/// Never for the types of this crate: all of them have a JSON form.
pub fn encode<T: serde::Serialize>(message: &T) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).expect("our own messages have a JSON form");
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_whole_however_they_are_cut() {
        let text = b"one\ntwo\n\nthree\nrest";
        for size in 1..text.len() {
            let mut lines = Lines::new(16);
            let got: Vec<Line> = text.chunks(size).flat_map(|chunk| lines.push(chunk)).collect();
            let want: Vec<Line> = ["one", "two", "", "three"]
                .map(|line| Line::Whole(line.as_bytes().to_vec()))
                .into_iter()
                .collect();
            assert_eq!(got, want, "in chunks of {size}");
            assert_eq!(lines.rest(), b"rest");
        }
    }

    #[test]
    fn an_oversized_line_is_told_once_and_the_next_one_is_read() {
        let mut lines = Lines::new(8);
        let mut got = lines.push(b"0123456789");
        got.extend(lines.push(b"0123456789\nshort\n"));
        assert_eq!(got, [Line::Oversized, Line::Whole(b"short".to_vec())]);
    }
}
