//! Who takes cards: shops with a terminal in every city, and web shops of every home country.

use super::{
    draw::Draw,
    places::{CATEGORIES, CITIES, Category},
};
use crate::types::{auth::Merchant, ids::Id};

/// Shops of one category in one city, and web shops of one category in one country.
const SHOPS_PER_CATEGORY: usize = 7;

/// One merchant of the world.
pub(super) struct Shop {
    pub category: &'static Category,
    /// Index of its city; for a web shop, of a city in its country.
    pub city: usize,
    pub on_the_web: bool,
    pub merchant: Merchant,
}

/// All merchants, found by city and category.
pub(super) struct Market {
    shops: Vec<Shop>,
    /// Indices of the shops, by city and category.
    counters: Vec<Vec<Vec<usize>>>,
    /// The same for web shops; a city's are those of its country.
    websites: Vec<Vec<Vec<usize>>>,
}

impl Market {
    pub(super) fn new(draw: &mut Draw) -> Market {
        let empty = || vec![vec![Vec::new(); CATEGORIES.len()]; CITIES.len()];
        let mut market = Market { shops: Vec::new(), counters: empty(), websites: empty() };
        for (city, home) in CITIES.iter().enumerate() {
            let first_of_country = CITIES.iter().position(|c| c.country == home.country).unwrap_or(city);
            for (place, category) in CATEGORIES.iter().enumerate() {
                if category.ecommerce < 1.0 {
                    market.counters[city][place] = market.open(city, category, false, draw);
                }
                if category.ecommerce > 0.0 {
                    market.websites[city][place] = match first_of_country == city {
                        true => market.open(city, category, true, draw),
                        false => market.websites[first_of_country][place].clone(),
                    };
                }
            }
        }
        market
    }

    fn open(
        &mut self,
        city: usize,
        category: &'static Category,
        on_the_web: bool,
        draw: &mut Draw,
    ) -> Vec<usize> {
        let mut opened = Vec::with_capacity(SHOPS_PER_CATEGORY);
        for _ in 0..SHOPS_PER_CATEGORY {
            let number = self.shops.len();
            let country = CITIES[city].country;
            let kind = if on_the_web { 'W' } else { 'M' };
            let id = |text: String| Id::new(&text).expect("short and ASCII");
            let merchant = Merchant {
                merchant_id: Some(id(format!("{kind}{number:05}-{country}"))),
                terminal_id: (!on_the_web).then(|| id(format!("T{number:05}-1"))),
                mcc: Some(category.mcc),
                country: Some(CITIES[city].country()),
                // A web shop is nowhere: only a terminal says where the card is.
                place: (!on_the_web).then(|| CITIES[city].near(0.06, draw)),
                ..Merchant::default()
            };
            self.shops.push(Shop { category, city, on_the_web, merchant });
            opened.push(number);
        }
        opened
    }

    pub(super) fn shop(&self, index: usize) -> &Shop {
        &self.shops[index]
    }

    /// The index of a shop of this category that can be reached from this city; where the category has none of
    /// the wanted sort, one of the other.
    pub(super) fn find(&self, city: usize, category: usize, on_the_web: bool, draw: &mut Draw) -> usize {
        let (wanted, other) = match on_the_web {
            true => (&self.websites[city][category], &self.counters[city][category]),
            false => (&self.counters[city][category], &self.websites[city][category]),
        };
        *draw.pick(if wanted.is_empty() { other } else { wanted })
    }
}

/// The index of a category that is in the table.
pub(super) fn category_of(mcc: u16) -> usize {
    CATEGORIES.iter().position(|c| c.mcc == mcc).expect("only categories of the table are asked for")
}
