//! What a new blob shares with its base: runs that are added to bytes of the base, and runs that are taken as they are.
//!
//! # Invariants
//! - The operations, in their order, give the new blob and nothing more; none is empty, and no two copies follow each other.
//! - Long runs of one byte never reach the suffix array, where they would cost quadratic time: they are copied, and compress.

use bidiff::{DiffParams, Match};

/// A run of one byte that is at least so long is copied. Shorter ones may be part of a match.
const CONSTANT_RUN_MIN_BYTES: usize = 16 * 1024;

/// What makes the next bytes of the new blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Bytes of the base, to each of which the difference is added.
    Add {
        /// Where they start in the base.
        base: u64,
        /// How many.
        bytes: u64,
    },
    /// Bytes as they are.
    Copy {
        /// How many.
        bytes: u64,
    },
}

impl Operation {
    /// How many bytes it makes.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Add { bytes, .. } | Self::Copy { bytes } => bytes,
        }
    }
}

/// Operations in the order of the new blob.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operations(Vec<Operation>);

impl Operations {
    /// Puts one at the end; what goes on where the last one ended becomes one with it.
    fn push(&mut self, next: Operation) {
        if next.bytes() == 0 {
            return;
        }
        match (self.0.last_mut(), next) {
            (Some(Operation::Copy { bytes }), Operation::Copy { bytes: more }) => *bytes += more,
            (
                Some(Operation::Add { base, bytes }),
                Operation::Add {
                    base: next,
                    bytes: more,
                },
            ) if *base + *bytes == next => *bytes += more,
            _ => self.0.push(next),
        }
    }

    /// Adds those that make `new` from `base`, a part of a base blob that starts there at `base_offset`.
    pub fn find(&mut self, base: &[u8], base_offset: u64, new: &[u8]) {
        let (dense, runs) = without_constant_runs(new);
        let mut found = Operations::default();
        if !base.is_empty() && !dense.is_empty() {
            let take = |matched: Match| {
                found.push(Operation::Add {
                    base: base_offset + matched.add_old_start as u64,
                    bytes: matched.add_length as u64,
                });
                let copied = matched.copy_end.saturating_sub(matched.copy_start());
                found.push(Operation::Copy {
                    bytes: copied as u64,
                });
                Ok::<(), std::convert::Infallible>(())
            };
            match bidiff::diff(base, &dense, &DiffParams::default(), take) {
                Ok(()) => {}
                Err(never) => match never {},
            }
        }
        // What the last match left, or all of it.
        let covered: u64 = found.0.iter().map(|operation| operation.bytes()).sum();
        found.push(Operation::Copy {
            bytes: (dense.len() as u64).saturating_sub(covered),
        });
        self.put_runs_back(&found, &runs);
    }

    /// Adds `found`, with the constant runs that were taken out in between.
    fn put_runs_back(&mut self, found: &Self, runs: &[Run]) {
        let mut runs = runs.iter().peekable();
        let mut done = 0;
        for operation in &found.0 {
            let mut rest = *operation;
            while let Some(run) = runs.next_if(|run| run.dense_offset < done + rest.bytes()) {
                let (before, after) = split(rest, run.dense_offset - done);
                done += before.bytes();
                rest = after;
                self.push(before);
                self.push(Operation::Copy { bytes: run.bytes });
            }
            done += rest.bytes();
            self.push(rest);
        }
        runs.for_each(|run| self.push(Operation::Copy { bytes: run.bytes }));
    }

    /// Those that make `bytes` bytes from `offset` on.
    pub fn slice(&self, offset: u64, bytes: u64) -> Vec<Operation> {
        let (mut start, end) = (0, offset + bytes);
        let mut list = Vec::new();
        for operation in &self.0 {
            let stop = start + operation.bytes();
            if stop > offset && start < end {
                let (_, rest) = split(*operation, offset.saturating_sub(start));
                let (part, _) = split(rest, end.min(stop) - offset.max(start));
                list.push(part);
            }
            start = stop;
        }
        list
    }
}

/// Cuts an operation after its first `bytes`.
fn split(operation: Operation, bytes: u64) -> (Operation, Operation) {
    match operation {
        Operation::Copy { bytes: all } => (
            Operation::Copy { bytes },
            Operation::Copy { bytes: all - bytes },
        ),
        Operation::Add { base, bytes: all } => (
            Operation::Add { base, bytes },
            Operation::Add {
                base: base + bytes,
                bytes: all - bytes,
            },
        ),
    }
}

/// A long run of one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    /// How many bytes that are in no run stand before it.
    dense_offset: u64,
    bytes: u64,
}

fn without_constant_runs(new: &[u8]) -> (Vec<u8>, Vec<Run>) {
    let (mut dense, mut runs) = (Vec::with_capacity(new.len()), Vec::new());
    for run in new.chunk_by(|one, next| one == next) {
        if run.len() < CONSTANT_RUN_MIN_BYTES {
            dense.extend_from_slice(run);
        } else {
            runs.push(Run {
                dense_offset: dense.len() as u64,
                bytes: run.len() as u64,
            });
        }
    }
    (dense, runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the operations make.
    fn made(operations: &Operations, base: &[u8], base_offset: u64, new: &[u8]) -> u64 {
        let mut done = 0;
        for operation in &operations.0 {
            if let Operation::Add { base: at, bytes } = *operation {
                assert!(bytes > 0 && at >= base_offset);
                assert!(at - base_offset + bytes <= base.len() as u64);
            }
            done += operation.bytes();
        }
        assert_eq!(done, new.len() as u64);
        let added = operations.0.iter().filter_map(|operation| match operation {
            Operation::Add { bytes, .. } => Some(*bytes),
            Operation::Copy { .. } => None,
        });
        added.sum()
    }

    fn noise(length: usize, seed: u32) -> Vec<u8> {
        let mut state = seed | 1;
        (0..length)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                state as u8
            })
            .collect()
    }

    #[test]
    fn everything_is_made_and_what_is_shared_is_added() {
        let base = noise(50_000, 7);
        let mut new = noise(100, 9);
        new.extend_from_slice(&base[20_000..]);
        new.extend_from_slice(&[0; 40_000]);
        new.extend_from_slice(&base[..20_000]);
        new[30_000] ^= 1;
        for (base, least) in [(&base[..], 49_000), (&[], 0), (&[1], 0)] {
            let mut operations = Operations::default();
            operations.find(base, 77, &new);
            assert!(made(&operations, base, 77, &new) >= least);
        }
        let mut nothing = Operations::default();
        nothing.find(&base, 0, &[]);
        assert_eq!(nothing.0, []);
    }

    #[test]
    fn runs_inside_of_a_match_cut_it() {
        let base = noise(4000, 3);
        let mut new = base[..2000].to_vec();
        new.extend(vec![5; CONSTANT_RUN_MIN_BYTES]);
        new.extend_from_slice(&base[2000..]);
        new.extend(vec![6; CONSTANT_RUN_MIN_BYTES]);
        let mut operations = Operations::default();
        operations.find(&base, 0, &new);
        let run = Operation::Copy {
            bytes: CONSTANT_RUN_MIN_BYTES as u64,
        };
        let add = |base| Operation::Add { base, bytes: 2000 };
        assert_eq!(operations.0, [add(0), run, add(2000), run]);
    }

    #[test]
    fn slices_join_to_the_whole() {
        let list = [
            Operation::Add {
                base: 10,
                bytes: 100,
            },
            Operation::Copy { bytes: 50 },
            Operation::Add { base: 3, bytes: 7 },
        ];
        let operations = Operations(list.to_vec());
        assert_eq!(operations.slice(0, 157), list);
        assert_eq!(
            operations.slice(90, 62),
            [
                Operation::Add {
                    base: 100,
                    bytes: 10
                },
                Operation::Copy { bytes: 50 },
                Operation::Add { base: 3, bytes: 2 },
            ]
        );
        assert_eq!(operations.slice(100, 50), [Operation::Copy { bytes: 50 }]);
    }
}
