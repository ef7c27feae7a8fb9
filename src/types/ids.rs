//! Names given by others. Compared as bytes, never normalised, and held inline so that copying one allocates
//! nothing.

use std::{borrow::Borrow, fmt, marker::PhantomData};

use arrayvec::ArrayString;

use crate::limits::ID_BYTES_MAX;

/// Why a text is not an id.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IdError {
    #[error("must not be empty")]
    Empty,
    #[error("must have at most {ID_BYTES_MAX} bytes")]
    TooLong,
    #[error("must be printable ASCII without control characters")]
    NotPrintableAscii,
}

/// 1 to 64 bytes of printable ASCII (space to tilde).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(ArrayString<ID_BYTES_MAX>);

impl Id {
    /// # Errors
    /// Where the text is empty, too long or not printable ASCII.
    pub fn new(text: &str) -> Result<Id, IdError> {
        if text.is_empty() {
            return Err(IdError::Empty);
        }
        if !text.bytes().all(|b| (0x20..=0x7e).contains(&b)) {
            return Err(IdError::NotPrintableAscii);
        }
        ArrayString::from(text).map(Id).map_err(|_| IdError::TooLong)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An id at rest, where there are millions of them: no longer than its text.
#[derive(Clone, PartialEq, Eq)]
pub struct Kept<T> {
    text: Box<str>,
    kind: PhantomData<T>,
}

impl<T> Kept<T> {
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn id(&self) -> Id {
        Id(ArrayString::from(&self.text).expect("only an id is kept"))
    }
}

impl<T> fmt::Debug for Kept<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl From<Id> for Kept<Id> {
    fn from(id: Id) -> Kept<Id> {
        Kept { text: id.as_str().into(), kind: PhantomData }
    }
}

impl Kept<Id> {
    pub fn get(&self) -> Id {
        self.id()
    }
}

macro_rules! id {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub struct $name(pub Id);

        impl $name {
            /// # Errors
            /// Where the text is empty, too long or not printable ASCII.
            pub fn new(text: &str) -> Result<$name, IdError> {
                Id::new(text).map($name)
            }

            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        impl From<$name> for Kept<$name> {
            fn from(id: $name) -> Kept<$name> {
                Kept { text: id.as_str().into(), kind: PhantomData }
            }
        }

        impl Kept<$name> {
            pub fn get(&self) -> $name {
                $name(self.id())
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    )*};
}

id! {
    /// The issuer's name for an account.
    AccountId;
    /// The issuer's name for a card; never a card number.
    CardToken;
    /// The key of a request that changes state: a `transaction_id` or a `request_id`. One space per client.
    RequestKey;
}

/// Whether a text is, blanks and dashes removed, a Luhn-valid number of 13 to 19 digits: what a card number
/// looks like (ISO/IEC 7812-1, annex B).
pub fn looks_like_card_number(text: &str) -> bool {
    let mut digits = 0_u32;
    let mut sum = 0_u32;
    for byte in text.bytes().rev() {
        let digit = match byte {
            b'0'..=b'9' => u32::from(byte - b'0'),
            b' ' | b'-' => continue,
            _ => return false,
        };
        sum += match digits % 2 {
            0 => digit,
            _ if digit > 4 => digit * 2 - 9,
            _ => digit * 2,
        };
        digits += 1;
    }
    (13..=19).contains(&digits) && sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_1_to_64_bytes_of_printable_ascii() {
        assert!(Id::new(&"x".repeat(64)).is_ok());
        assert_eq!(Id::new(""), Err(IdError::Empty));
        assert_eq!(Id::new(&"x".repeat(65)), Err(IdError::TooLong));
        for text in ["a\0b", "naïve", "tab\t", "\u{202e}rtl", "\x7f"] {
            assert_eq!(Id::new(text), Err(IdError::NotPrintableAscii), "{text:?}");
        }
    }

    #[test]
    fn a_card_number_is_recognised_however_it_is_spaced() {
        for pan in ["4111111111111111", "4111 1111 1111 1111", "5500-0000-0000-0004", "378282246310005"] {
            assert!(looks_like_card_number(pan), "{pan}");
        }
        for token in
            ["4111111111111112", "tok_4111111111111111", "123456789012", "41111111111111111111", "", "----"]
        {
            assert!(!looks_like_card_number(token), "{token}");
        }
    }
}
