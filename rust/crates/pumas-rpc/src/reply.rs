//! A reply's text: ready in memory, or for the very long ones made piece by piece while it is sent.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

const PIECE: usize = 64 * 1024;
/// Up to so many bytes are copied to stand behind others, so that they leave in one packet.
const COPIED: usize = 16 * 1024;

/// JSON text that is read while it is sent. The runtime reads it, so it must lie in memory.
pub struct Long {
    left: usize,
    text: Box<dyn Read + Send>,
}

impl Long {
    /// `text` gives exactly `length` bytes.
    #[must_use]
    pub fn new(length: usize, text: impl Read + Send + 'static) -> Self {
        Self {
            left: length,
            text: Box::new(text),
        }
    }

    fn piece(&mut self) -> io::Result<Bytes> {
        let mut piece = vec![0; self.left.min(PIECE)];
        self.text.read_exact(&mut piece)?;
        self.left -= piece.len();
        Ok(piece.into())
    }
}

enum Part {
    Ready(Vec<u8>),
    Long(Long),
}

impl Part {
    fn len(&self) -> usize {
        match self {
            Self::Ready(text) => text.len(),
            Self::Long(long) => long.left,
        }
    }
}

/// The text of a reply, or of a part of one.
#[derive(Default)]
pub struct Text {
    parts: VecDeque<Part>,
}

impl From<Vec<u8>> for Text {
    fn from(text: Vec<u8>) -> Self {
        Self {
            parts: VecDeque::from([Part::Ready(text)]),
        }
    }
}

impl From<Long> for Text {
    fn from(long: Long) -> Self {
        Self {
            parts: VecDeque::from([Part::Long(long)]),
        }
    }
}

impl Text {
    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.iter().all(|part| part.len() == 0)
    }

    /// Put bytes behind what is there.
    pub fn push(&mut self, text: &[u8]) {
        match self.parts.back_mut() {
            Some(Part::Ready(before)) => before.extend_from_slice(text),
            _ => self.parts.push_back(Part::Ready(text.to_vec())),
        }
    }

    /// Put another text behind what is there.
    pub fn append(&mut self, other: Self) {
        for part in other.parts {
            match part {
                Part::Ready(text) if text.len() <= COPIED => self.push(&text),
                part => self.parts.push_back(part),
            }
        }
    }
}

impl Body for Text {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        loop {
            let data = match self.parts.front_mut() {
                None => return Poll::Ready(None),
                Some(Part::Long(long)) if long.left > 0 => long.piece(),
                Some(Part::Ready(text)) if !text.is_empty() => Ok(std::mem::take(text).into()),
                Some(_) => {
                    self.parts.pop_front();
                    continue;
                }
            };
            return Poll::Ready(Some(data.map(Frame::data)));
        }
    }

    fn size_hint(&self) -> SizeHint {
        let length: usize = self.parts.iter().map(Part::len).sum();
        SizeHint::with_exact(length as u64)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    async fn sent(text: Text) -> Vec<u8> {
        let promised = text.size_hint().exact();
        let bytes = text.collect().await.unwrap().to_bytes().to_vec();
        assert_eq!(promised, Some(bytes.len() as u64));
        bytes
    }

    #[tokio::test]
    async fn parts_come_in_order() {
        let long: Vec<u8> = (0..=250).cycle().take(3 * PIECE + 7).collect();
        let mut text = Text::from(b"[".to_vec());
        text.append(vec![b'x'; COPIED + 1].into());
        text.push(b",");
        text.append(Long::new(long.len(), io::Cursor::new(long.clone())).into());
        text.append(b"]".to_vec().into());
        let expected = [b"[", &vec![b'x'; COPIED + 1][..], b",", &long, b"]"].concat();
        assert_eq!(sent(text).await, expected);
        assert!(sent(Text::default()).await.is_empty());
    }

    #[tokio::test]
    async fn small_parts_leave_together() {
        let mut text = Text::from(b"a".to_vec());
        text.append(b"b".to_vec().into());
        text.push(b"c");
        let frame = text.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(&frame[..], b"abc");
    }

    #[tokio::test]
    async fn a_text_that_ends_early_is_an_error() {
        let text = Text::from(Long::new(2, io::Cursor::new(b"1")));
        assert!(text.collect().await.is_err());
    }
}
