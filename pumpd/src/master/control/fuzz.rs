//! What the control socket reads, for `crate::fuzz`.

use pump_control::Line;

use super::client::understand;
use super::http::Head;
use super::peer::May;

/// Each line as one of our language, and all as the head of an HTTP request if they begin like one.
pub(crate) fn lines(lines: Vec<Line>) {
    let mut head = match lines.first() {
        Some(Line::Whole(bytes)) => Head::begins(bytes),
        _ => None,
    };
    for line in lines {
        if let Some(head) = &mut head {
            let _wanted = head.line(&line);
        }
        let (one, other) = match &line {
            Line::Whole(bytes) => (Line::Whole(bytes.clone()), line),
            Line::Oversized => (Line::Oversized, line),
        };
        let _asked = (understand(one, May::Change), understand(other, May::Ask));
    }
}
