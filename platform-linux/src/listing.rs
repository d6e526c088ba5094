//! The objects of a repository in ascending order, one after the other, in memory of a fixed size.
//!
//! A directory has its objects in any order. It is read once for each batch of names that fits, mostly once in all.

use crate::file::{for_each_entry, if_there, open_directory};
use crate::path::{ObjectName, digest_of};
use crate::repository::Repository;
use rustix::io::Errno;
use twinseal_core::storage::RunningObject;
use twinseal_core::wire::digest::BlobDigest;

/// So many names are kept: 65,536 objects have as many in each directory.
const BATCH_MAX_COUNT: usize = 256;

/// Directories of a repository: one for each first byte of a digest.
const SHARDS: usize = 256;

/// The objects that come next.
pub(crate) struct Listing {
    /// Ascending, all of one directory.
    batch: heapless::Vec<BlobDigest, BATCH_MAX_COUNT>,
}

impl Listing {
    /// Nothing was listed yet.
    pub(crate) const fn new() -> Self {
        Self {
            batch: heapless::Vec::new(),
        }
    }

    /// The first object after `after`. What is no regular file is no object.
    pub(crate) fn after(
        &mut self,
        repository: &Repository,
        after: Option<&BlobDigest>,
    ) -> Result<Option<RunningObject>, Errno> {
        let mut after = after.copied();
        while let Some(digest) = self.name_after(repository, after.as_ref())? {
            if let Some(size) = repository.length(&digest)? {
                return Ok(Some(RunningObject { digest, size }));
            }
            after = Some(digest);
        }
        Ok(None)
    }

    fn name_after(
        &mut self,
        repository: &Repository,
        after: Option<&BlobDigest>,
    ) -> Result<Option<BlobDigest>, Errno> {
        // What was listed after an earlier object is all that there is up to its own last name.
        if let Some(after) = after
            && self
                .batch
                .first()
                .is_some_and(|first| first.as_bytes() <= after.as_bytes())
            && let Some(next) = self.batch.iter().find(|name| is_after(name, Some(after)))
        {
            return Ok(Some(*next));
        }
        let first = after.map_or(0, |after| {
            usize::from(*after.as_bytes().first().unwrap_or(&0))
        });
        for shard in first..SHARDS {
            self.list(repository, shard as u8, after)?;
            if let Some(next) = self.batch.first() {
                return Ok(Some(*next));
            }
        }
        Ok(None)
    }

    /// Keeps the first names of a directory that come after `after`.
    fn list(
        &mut self,
        repository: &Repository,
        shard: u8,
        after: Option<&BlobDigest>,
    ) -> Result<(), Errno> {
        self.batch.clear();
        let prefix = ObjectName::new(&BlobDigest::sha256([shard; 32]));
        let prefix = prefix.shard();
        let directory = match if_there(open_directory(&repository.objects, prefix)) {
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            directory => directory?,
        };
        let Some(directory) = directory else {
            return Ok(());
        };
        for_each_entry(&directory, |name| {
            let mut whole = heapless::Vec::<u8, 128>::new();
            let fits = whole.extend_from_slice(prefix.as_bytes()).is_ok()
                && whole.extend_from_slice(name.to_bytes()).is_ok();
            let digest = digest_of(&whole).filter(|digest| fits && is_after(digest, after));
            if let Some(digest) = digest {
                self.keep(digest);
            }
            Ok(())
        })
    }

    /// Keeps a name among those that come first.
    fn keep(&mut self, digest: BlobDigest) {
        let found = self
            .batch
            .binary_search_by(|kept| kept.as_bytes().cmp(digest.as_bytes()));
        let Err(place) = found else {
            return;
        };
        if self.batch.is_full() {
            if place == self.batch.len() {
                return;
            }
            self.batch.pop();
        }
        // There is room now, and the place is within.
        let _ = self.batch.insert(place, digest);
    }
}

fn is_after(digest: &BlobDigest, after: Option<&BlobDigest>) -> bool {
    after.is_none_or(|after| digest.as_bytes() > after.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, vec::Vec};

    /// A repository with objects of these digests; the size of each is its last byte.
    fn repository(digests: &[BlobDigest]) -> (tempfile::TempDir, Repository) {
        let root = tempfile::tempdir().unwrap();
        let objects = root.path().join("composefs/objects");
        fs::create_dir_all(root.path().join("composefs/images")).unwrap();
        fs::create_dir_all(&objects).unwrap();
        for digest in digests {
            let name = ObjectName::new(digest);
            let shard = objects.join(name.shard());
            fs::create_dir_all(&shard).unwrap();
            let size = usize::from(*digest.as_bytes().last().unwrap());
            fs::write(shard.join(name.rest()), std::vec![0; size]).unwrap();
        }
        let opened = Repository::open_path(root.path().to_str().unwrap());
        (root, opened.unwrap().unwrap())
    }

    fn all(repository: &Repository) -> Vec<RunningObject> {
        let (mut listing, mut found) = (Listing::new(), Vec::<RunningObject>::new());
        while let Some(object) = listing
            .after(repository, found.last().map(|last| &last.digest))
            .unwrap()
        {
            found.push(object);
        }
        found
    }

    /// Digests that differ in their first byte and in the order of the rest.
    fn digests(count: usize, shards: usize) -> Vec<BlobDigest> {
        let digest = |number: usize| {
            let mut bytes = [0x5a; 32];
            bytes[0] = (number % shards * (255 / shards)) as u8;
            bytes[1..5].copy_from_slice(&(number as u32).wrapping_mul(0x9e37_79b1).to_be_bytes());
            bytes[31] = number as u8;
            BlobDigest::sha256(bytes)
        };
        (0..count).map(digest).collect()
    }

    #[test]
    fn every_object_comes_once_and_in_order_even_when_a_directory_holds_more_than_a_batch() {
        for (count, shards) in [(1, 1), (40, 7), (3 * BATCH_MAX_COUNT, 1), (700, 2)] {
            let mut expected = digests(count, shards);
            let (_root, repository) = repository(&expected);
            expected.sort_by(|one, other| one.as_bytes().cmp(other.as_bytes()));
            let found = all(&repository);
            let sizes = found.iter().map(|object| object.size);
            assert!(
                sizes.eq(expected
                    .iter()
                    .map(|digest| u64::from(digest.as_bytes()[31])))
            );
            let names: Vec<_> = found.iter().map(|object| object.digest).collect();
            assert_eq!(names, expected, "{count} in {shards}");
        }
    }

    #[test]
    fn a_listing_starts_anywhere_and_anew() {
        let mut expected = digests(500, 3);
        let (_root, repository) = repository(&expected);
        expected.sort_by(|one, other| one.as_bytes().cmp(other.as_bytes()));
        let mut listing = Listing::new();
        for number in [100, 101, 0, 400, 7, 498] {
            let found = listing.after(&repository, Some(&expected[number])).unwrap();
            assert_eq!(found.unwrap().digest, expected[number + 1]);
        }
        let first = listing.after(&repository, None).unwrap();
        assert_eq!(first.unwrap().digest, expected[0]);
        assert_eq!(listing.after(&repository, expected.last()), Ok(None));
    }

    #[test]
    fn what_is_no_object_is_passed_over() {
        let digests = digests(3, 1);
        let (root, repository) = repository(&digests);
        let objects = root.path().join("composefs/objects");
        let link = ObjectName::new(&BlobDigest::sha256([0; 32]));
        std::os::unix::fs::symlink("nowhere", objects.join("00").join(link.rest())).unwrap();
        fs::write(objects.join("00/short"), "x").unwrap();
        fs::write(
            objects.join("00").join(&link.rest().to_uppercase()[..60]),
            "x",
        )
        .unwrap();
        fs::write(objects.join("77"), "no directory").unwrap();
        assert_eq!(all(&repository).len(), 3);
    }
}
