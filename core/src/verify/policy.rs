//! What this device allows: its type, its anti-rollback floor, the validity window.
//!
//! Time on a device without a trusted clock is the highest time that it has ever seen: it cannot be turned back, so a bundle
//! that has expired stays expired. The start of a window is enforced only against a clock.

use crate::error::PolicyRefused;
use crate::wire::manifest::Manifest;

/// The device's side of the decision.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    /// Device type; must equal the manifest's, byte for byte.
    pub compatible: &'a str,
    /// Lowest anti-rollback version that may be installed.
    pub floor: u64,
    /// The clock, in seconds since 1970; `None` when the device has none that it trusts.
    pub now: Option<u64>,
    /// Highest time ever seen, in seconds since 1970; 0 on a new device.
    pub highest_time_seen: u64,
}

impl Policy<'_> {
    /// Checks a manifest against the device.
    ///
    /// # Errors
    /// The first refusal: device type, validity window, floor.
    pub fn check(&self, manifest: &Manifest) -> Result<(), PolicyRefused> {
        if manifest.compatible.as_str() != self.compatible {
            return Err(PolicyRefused::WrongCompatible);
        }
        let window = manifest.window;
        let latest = self.highest_time_seen.max(self.now.unwrap_or(0));
        if let Some(not_after) = window.not_after.filter(|not_after| latest > *not_after) {
            return Err(PolicyRefused::Expired { not_after });
        }
        if self.now.is_some_and(|now| now < window.not_before) {
            return Err(PolicyRefused::NotYetValid {
                not_before: window.not_before,
            });
        }
        if manifest.anti_rollback < self.floor {
            return Err(PolicyRefused::BelowFloor {
                version: manifest.anti_rollback,
                floor: self.floor,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::manifest::tests::example;

    const ALLOWS: Policy<'static> = Policy {
        compatible: "acme-gateway",
        floor: 7,
        now: Some(15),
        highest_time_seen: 12,
    };

    #[test]
    fn each_refusal_has_its_own_reason() {
        let manifest = example();
        let check = |policy: Policy<'_>| policy.check(&manifest);
        assert_eq!(check(ALLOWS), Ok(()));
        assert_eq!(
            check(Policy {
                compatible: "acme-gatewaz",
                ..ALLOWS
            }),
            Err(PolicyRefused::WrongCompatible)
        );
        assert_eq!(
            check(Policy {
                compatible: "acme-gateway-2",
                ..ALLOWS
            }),
            Err(PolicyRefused::WrongCompatible)
        );
        assert_eq!(
            check(Policy { floor: 8, ..ALLOWS }),
            Err(PolicyRefused::BelowFloor {
                version: 7,
                floor: 8
            })
        );
        assert_eq!(
            check(Policy {
                now: Some(9),
                ..ALLOWS
            }),
            Err(PolicyRefused::NotYetValid { not_before: 10 })
        );
        assert_eq!(
            check(Policy {
                now: Some(21),
                ..ALLOWS
            }),
            Err(PolicyRefused::Expired { not_after: 20 })
        );
    }

    #[test]
    fn a_clock_turned_back_does_not_unexpire() {
        let manifest = example();
        let turned_back = Policy {
            now: Some(15),
            highest_time_seen: 21,
            ..ALLOWS
        };
        assert_eq!(
            turned_back.check(&manifest),
            Err(PolicyRefused::Expired { not_after: 20 })
        );
        let no_clock = Policy {
            now: None,
            highest_time_seen: 0,
            ..ALLOWS
        };
        assert_eq!(no_clock.check(&manifest), Ok(()));
    }
}
