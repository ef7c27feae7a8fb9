//! Distance and speed on the earth. Results are rounded, so that a last bit of difference between two
//! mathematics libraries does not show in a decision made again elsewhere.

use crate::types::auth::Place;

/// Mean radius of the earth (IUGG, as in Moritz, Geodetic Reference System 1980).
const EARTH_RADIUS_KM: f64 = 6_371.008_8;
/// Below this distance nobody has travelled: merchants' coordinates are often those of a head office.
pub const TRAVEL_DISTANCE_MIN_KM: f64 = 20.0;
/// A shorter time is taken as this: terminals' and switches' clocks differ by seconds.
pub const TRAVEL_TIME_MIN_MS: i64 = 60_000;

/// Great-circle distance by the haversine formula (R. W. Sinnott, "Virtues of the Haversine", Sky and Telescope
/// 68, 1984, p. 159), exact to about 0.5 %, which is the earth's flattening. Rounded to metres.
pub fn distance_km(a: Place, b: Place) -> f64 {
    let half_sine_squared = |degrees: f64| (degrees.to_radians() / 2.0).sin().powi(2);
    let haversine = half_sine_squared(b.latitude - a.latitude)
        + a.latitude.to_radians().cos()
            * b.latitude.to_radians().cos()
            * half_sine_squared(b.longitude - a.longitude);
    // Rounding may lift the haversine of two antipodes above 1, where the arcsine ends.
    let distance = 2.0 * EARTH_RADIUS_KM * haversine.clamp(0.0, 1.0).sqrt().asin();
    (distance * 1_000.0).round() / 1_000.0
}

/// Speed in km/h that a distance takes within a time: 0 below [`TRAVEL_DISTANCE_MIN_KM`], and a time shorter than
/// [`TRAVEL_TIME_MIN_MS`] counts as that.
pub fn travel_speed_kmh(distance_km: f64, elapsed_ms: i64) -> f64 {
    if distance_km < TRAVEL_DISTANCE_MIN_KM {
        return 0.0;
    }
    distance_km * 3_600_000.0 / elapsed_ms.max(TRAVEL_TIME_MIN_MS) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(latitude: f64, longitude: f64) -> Place {
        Place::new(latitude, longitude).unwrap()
    }

    #[test]
    fn known_distances_are_met() {
        let half = std::f64::consts::PI * EARTH_RADIUS_KM;
        for (a, b, expected_km, within_km) in [
            (place(0.0, 0.0), place(0.0, 0.0), 0.0, 0.0),
            (place(90.0, 0.0), place(-90.0, 0.0), half, 0.001),
            (place(0.0, -180.0), place(0.0, 180.0), 0.0, 0.001),
            (place(0.0, 179.5), place(0.0, -179.5), half / 180.0, 0.001),
            (place(13.7, 45.1), place(-13.7, -134.9), half, 0.001),
            // Paris, Notre-Dame, and New York, City Hall: 5,837 km on the sphere.
            (place(48.8530, 2.3499), place(40.7127, -74.0059), 5_837.0, 5.0),
        ] {
            let distance = distance_km(a, b);
            assert!((distance - expected_km).abs() <= within_km, "{a:?} {b:?}: {distance}");
            assert_eq!(distance, distance_km(b, a));
        }
    }

    #[test]
    fn neither_a_short_hop_nor_a_split_second_looks_like_a_flight() {
        assert_eq!(travel_speed_kmh(19.9, 1), 0.0);
        assert_eq!(travel_speed_kmh(900.0, 3_600_000), 900.0);
        assert_eq!(travel_speed_kmh(50.0, 0), 3_000.0);
        assert_eq!(travel_speed_kmh(50.0, -5), 3_000.0);
    }
}
