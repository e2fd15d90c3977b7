//! Bytes that begin on the stack.

/// A byte buffer that takes its first `N` bytes from the stack, so that an answer of the usual size is printed without
/// an allocation for its parts.
#[derive(Clone)]
pub(crate) struct Inline<const N: usize> {
    stack: [u8; N],
    len: usize,
    /// Holds everything once the stack is too small.
    heap: Vec<u8>,
}

impl<const N: usize> Inline<N> {
    pub(crate) fn as_slice(&self) -> &[u8] {
        if self.heap.is_empty() {
            return self.stack.get(..self.len).unwrap_or_default();
        }
        &self.heap
    }

    pub(crate) fn len(&self) -> usize {
        self.as_slice().len()
    }

    pub(crate) fn clear(&mut self) {
        self.truncate(0);
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        self.heap.truncate(len);
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.heap.is_empty() {
            let room = self.stack.get_mut(self.len..self.len + bytes.len());
            if let Some(room) = room {
                room.copy_from_slice(bytes);
                self.len += bytes.len();
                return;
            }
            self.heap.reserve(2 * N + bytes.len());
            self.heap
                .extend_from_slice(self.stack.get(..self.len).unwrap_or_default());
        }
        self.heap.extend_from_slice(bytes);
    }
}

impl<const N: usize> Default for Inline<N> {
    fn default() -> Inline<N> {
        Inline {
            stack: [0; N],
            len: 0,
            heap: Vec::new(),
        }
    }
}

impl<const N: usize> std::fmt::Debug for Inline<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pushed_is_there_on_the_stack_and_off_it() {
        let mut buffer = Inline::<4>::default();
        assert_eq!(buffer.len(), 0);
        buffer.push(b"abc");
        buffer.push(b"");
        assert_eq!(buffer.as_slice(), b"abc");
        buffer.push(b"de");
        assert_eq!(buffer.as_slice(), b"abcde");
        buffer.truncate(4);
        buffer.push(b"f");
        assert_eq!(buffer.as_slice(), b"abcdf");
        buffer.truncate(1);
        assert_eq!((buffer.as_slice(), buffer.len()), (&b"a"[..], 1));
        buffer.clear();
        buffer.push(b"xyz");
        assert_eq!(buffer.as_slice(), b"xyz");
    }
}
