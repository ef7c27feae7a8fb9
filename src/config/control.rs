//! The control share: of what the model alone would decline, so much is let through, so that training also sees how such
//! transactions end.
//!
//! Which ones is told by a keyed hash of the transaction id: deciding again agrees, a repeat changes nothing, and who does
//! not know the key cannot aim at it.

use std::fmt::Write as _;

use serde::{Deserialize, Deserializer, de::Error as _};
use siphasher::sip::SipHasher13;

use super::Models;

/// Most of what the model declines that may be let through, in millionths.
const SHARE_MAX: f64 = 50_000.0;
const MILLION: f64 = 1e6;

/// What a share is kept in: millionths.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ControlShare(u32);

/// 128 bits, as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ControlKey(u128);

/// Which transactions are let through.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Control {
    share: ControlShare,
    key: u128,
}

impl Control {
    /// Whether this transaction is one of the share. Allocates nothing.
    pub fn takes(&self, transaction_id: &str) -> bool {
        let ControlShare(millionths) = self.share;
        if millionths == 0 {
            return false;
        }
        let (high, low) = ((self.key >> 64) as u64, self.key as u64);
        let hash = SipHasher13::new_with_keys(high, low).hash(transaction_id.as_bytes());
        (u128::from(hash) * 1_000_000) >> 64 < u128::from(millionths)
    }
}

impl Models {
    /// Which transactions these settings let through.
    pub fn control(&self) -> Control {
        Control { share: self.control_share, key: self.control_key.map_or(0, |ControlKey(key)| key) }
    }

    /// Gives a share its key, where neither the file has one nor the share is nothing.
    pub fn key_control(&mut self, key: impl FnOnce() -> [u8; 16]) {
        if self.control_share != ControlShare::default() {
            self.control_key.get_or_insert_with(|| ControlKey(u128::from_be_bytes(key())));
        }
    }

    /// As a section of the file; nothing where the share is nothing.
    pub(super) fn write_control(&self, text: &mut String) {
        let ControlShare(millionths) = self.control_share;
        if millionths == 0 {
            return;
        }
        // Writing to a text does not fail.
        let _ = writeln!(text, "\n[model]\ncontrol_share = 0.{millionths:06}");
        if let Some(ControlKey(key)) = self.control_key {
            let _ = writeln!(text, "control_key = \"{key:032x}\"");
        }
    }
}

impl<'de> Deserialize<'de> for ControlShare {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<ControlShare, D::Error> {
        let share = f64::deserialize(from)?;
        let millionths = share * MILLION;
        if !(0.0..=SHARE_MAX).contains(&millionths) {
            let most = SHARE_MAX / MILLION;
            return Err(D::Error::custom(format!("{share} is not between 0 and {most}")));
        }
        if share > 0.0 && millionths < 1.0 {
            return Err(D::Error::custom(format!(
                "{share} is less than one in a million; 0 lets nothing through"
            )));
        }
        Ok(ControlShare(millionths.round() as u32))
    }
}

impl<'de> Deserialize<'de> for ControlKey {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<ControlKey, D::Error> {
        let text = String::deserialize(from)?;
        let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let key = u128::from_str_radix(&text, 16).ok().filter(|_| is_hex);
        // A key is a secret, and is not repeated.
        key.map(ControlKey).ok_or_else(|| D::Error::custom("a control key has 32 hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn models(text: &str) -> Models {
        Config::parse("f", &format!("[model]\n{text}\n")).unwrap_or_else(|error| panic!("{error}")).model
    }

    #[test]
    fn a_share_takes_so_many_the_same_at_every_look_and_others_under_another_key() {
        let taken = |control: Control| -> Vec<usize> {
            (0..100_000).filter(|number| control.takes(&format!("t-{number}"))).collect()
        };
        let of = |share: &str, key: &str| {
            taken(models(&format!("control_share = {share}\ncontrol_key = \"{key}\"")).control())
        };
        let (one, other) = ("00000000000000000000000000000001", "80000000000000000000000000000001");
        let few = of("0.01", one);
        // Six standard deviations of a binomial count.
        assert!((811..=1_189).contains(&few.len()), "{}", few.len());
        assert_eq!(few, of("0.01", one));
        let more = of("0.05", one);
        assert!((4_586..=5_414).contains(&more.len()), "{}", more.len());
        assert!(few.iter().all(|number| more.contains(number)), "a share that grows keeps what it had");
        let elsewhere = of("0.01", other);
        let both = few.iter().filter(|number| elsewhere.contains(number)).count();
        assert!(both < 40, "{both} of both keys");
        assert_eq!(taken(Control::default()), Vec::<usize>::new());
        assert_eq!(of("0", one), Vec::<usize>::new());
    }

    #[test]
    fn a_share_and_its_key_are_read_as_they_are_kept_and_named_where_they_are_wrong() {
        for share in ["0.000001", "0.01", "0.033333", "0.05"] {
            let mut given = models(&format!("control_share = {share}"));
            given.key_control(|| [7; 16]);
            let config = Config { model: given.clone(), ..Config::default() };
            let read = Config::parse("kept", &config.decision_text()).unwrap();
            assert_eq!(read.model, given, "{share}");
            assert_ne!(config.decision_text(), Config::default().decision_text());
        }
        let mut none = models("control_share = 0");
        none.key_control(|| unreachable!("nothing to be keyed"));
        assert_eq!(none, Models::default());
        let mut own = models("control_share = 0.01\ncontrol_key = \"000102030405060708090a0b0c0d0e0f\"");
        own.key_control(|| unreachable!("the file has one"));
        for (text, words) in [
            ("control_share = 0.051", "0.051 is not between 0 and 0.05"),
            ("control_share = -0.01", "is not between"),
            ("control_share = nan", "is not between"),
            ("control_share = 0.0000001", "less than one in a million"),
            ("control_share = \"1 %\"", "invalid type"),
            ("control_key = \"short\"", "32 hexadecimal digits"),
            ("control_key = \"+00102030405060708090a0b0c0d0e0f\"", "32 hexadecimal digits"),
        ] {
            let error = Config::parse("f", &format!("[model]\n{text}\n")).unwrap_err();
            assert!(error.message.contains(words) && error.line == 2, "{text}: {error}");
        }
    }
}
