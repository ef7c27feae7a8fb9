//! What an ordinary account does in a month, for the benches: a cardholder who goes to a few merchants again and
//! again, most of them at home, some of them in the web.

use saker::{
    features::event::id_hash,
    types::{
        auth::{AuthRequest, Country, Merchant, Place, Subject},
        codes::{Channel, Decision, Kind},
        ids::{CardToken, Id, RequestKey},
        money::{Currency, Money},
    },
};

/// Numbers that look random and are the same in every run (Steele, Lea, Flood: SplitMix64).
pub struct Draw(pub u64);

impl Draw {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Declined in 4 of 100 cases.
    pub fn decision(&mut self) -> Decision {
        if self.below(100) < 4 { Decision::Declined } else { Decision::Approved }
    }
}

pub fn usd() -> Currency {
    Currency::from_alpha("USD").expect("USD is a currency")
}

fn id(text: &str) -> Id {
    Id::new(text).expect("short and printable")
}

/// The requests of one cardholder, one per merchant: one in eight abroad, one in three in the web, where one of two
/// devices is used.
pub fn requests(draw: &mut Draw, merchants: u64) -> Vec<AuthRequest> {
    (0..merchants)
        .map(|place| {
            let number = draw.below(1_000_000);
            let web = place % 3 == 2;
            let abroad = place % 8 == 7;
            let merchant = Merchant {
                merchant_id: Some(id(&format!("M-{number}"))),
                mcc: Some(5_000 + (id_hash(&number.to_string()) % 60) as u16),
                country: Country::new(if abroad { "MX" } else { "US" }),
                place: (!web)
                    .then(|| {
                        let off = |draw: &mut Draw| draw.below(4_000) as f64 / 10_000.0;
                        Place::new(40.0 + off(draw), -74.0 + off(draw))
                    })
                    .flatten(),
                ..Merchant::default()
            };
            AuthRequest {
                amount: Some(Money::new(100 + draw.below(20_000) as i64, usd())),
                merchant,
                channel: Some(if web { Channel::Ecommerce } else { Channel::CardPresent }),
                device_id: web.then(|| id(&format!("D-{}-{}", merchants, place % 2))),
                ..AuthRequest::new(
                    RequestKey::new("t").expect("short and printable"),
                    Kind::Purchase,
                    Subject::Card(CardToken::new("c").expect("short and printable")),
                )
            }
        })
        .collect()
}
