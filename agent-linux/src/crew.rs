//! Threads that hash: what core compares is computed here, several pieces at a time, while core waits for the next in order.
//!
//! # Invariants
//! - A job's answer is its own: whoever started it waits for that one, so answers never come out of order.
//! - All threads have ended when [`with_crew`] returns.

use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// More threads than this are faster than any medium.
const THREADS_MAX: usize = 4;

/// Buffers for direct writes start at a multiple of this: the largest logical block of common media, and a page.
const ALIGNMENT_BYTES: usize = 4096;

type Job<'j> = Box<dyn FnOnce() + Send + 'j>;

/// The threads, as who has work for them sees them.
pub struct Crew<'j> {
    jobs: Sender<Job<'j>>,
    threads: usize,
}

/// Runs `work` with a crew. On a machine with a single core there is nobody in it.
pub fn with_crew<'j, R>(work: impl FnOnce(&Crew<'j>) -> R) -> R {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = if cores > 1 { cores.min(THREADS_MAX) } else { 0 };
    with_threads(threads, work)
}

pub(crate) fn with_threads<'j, R>(threads: usize, work: impl FnOnce(&Crew<'j>) -> R) -> R {
    let (jobs, waiting) = channel::<Job<'j>>();
    let waiting = Mutex::new(waiting);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(job) = next(&waiting) {
                    job();
                }
            });
        }
        // Dropping the sender at the end ends the threads.
        let crew = Crew { jobs, threads };
        work(&crew)
    })
}

/// Waits for a job; `None` when there will be no more.
fn next<'j>(waiting: &Mutex<Receiver<Job<'j>>>) -> Option<Job<'j>> {
    waiting
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .recv()
        .ok()
}

impl<'j> Crew<'j> {
    /// Whether there is nobody in it.
    pub const fn is_empty(&self) -> bool {
        self.threads == 0
    }

    /// Starts a job; its answer comes through the receiver, which fails only when there is nobody to do it.
    pub fn start<T: Send + 'j>(&self, work: impl FnOnce() -> T + Send + 'j) -> Receiver<T> {
        let (answer, answered) = sync_channel(1);
        let job: Job<'j> = Box::new(move || {
            // Who does not want the answer any more has dropped the receiver.
            let _ = answer.send(work());
        });
        // A job that nobody takes drops its sender, and the receiver fails.
        let _ = self.jobs.send(job);
        answered
    }
}

/// A buffer whose bytes can be written past the page cache: it starts at a multiple of a page.
pub struct PageBuffer {
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl PageBuffer {
    /// A buffer for up to `bytes` bytes.
    pub fn new(bytes: usize) -> Self {
        let memory = vec![0; bytes + ALIGNMENT_BYTES];
        let start = memory.as_ptr().align_offset(ALIGNMENT_BYTES);
        Self {
            memory,
            start: start.min(ALIGNMENT_BYTES),
            length: 0,
        }
    }

    /// Room for `bytes` bytes, which are the content from now on; fewer when the buffer is smaller.
    pub fn resize(&mut self, bytes: usize) -> &mut [u8] {
        self.length = bytes.min(self.memory.len() - self.start);
        self.memory
            .get_mut(self.start..self.start + self.length)
            .unwrap_or(&mut [])
    }
}

impl AsRef<[u8]> for PageBuffer {
    fn as_ref(&self) -> &[u8] {
        self.memory
            .get(self.start..self.start + self.length)
            .unwrap_or(&[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_belongs_to_its_question() {
        let numbers: Vec<u64> = (0..100).collect();
        let squares = with_threads(3, |crew| {
            let answers: Vec<_> = numbers
                .iter()
                .map(|number| crew.start(move || number * number))
                .collect();
            answers
                .into_iter()
                .map(|answer| answer.recv().unwrap())
                .collect::<Vec<_>>()
        });
        let expected: Vec<_> = numbers.iter().map(|number| number * number).collect();
        assert_eq!(squares, expected);
    }

    #[test]
    fn nobody_answers_nothing() {
        let crew_is_empty = with_threads(0, |crew| crew.is_empty());
        assert!(crew_is_empty);
        assert!(!with_threads(1, |crew| crew.is_empty()));
    }

    #[test]
    fn a_page_buffer_starts_at_a_page() {
        let mut buffer = PageBuffer::new(10_000);
        assert!(buffer.as_ref().is_empty());
        buffer.resize(9_999).fill(7);
        assert_eq!(buffer.as_ref(), [7; 9_999]);
        assert_eq!(buffer.as_ref().as_ptr().addr() % ALIGNMENT_BYTES, 0);
        assert!(buffer.resize(20_000).len() >= 10_000);
    }
}
