//! Truth values and whole numbers.

use super::FromText;

impl FromText for bool {
    const EXPECTED: &'static str = "true or false";

    fn from_text(text: &str) -> Option<bool> {
        let one_of = |words: &[&str]| words.iter().any(|w| text.eq_ignore_ascii_case(w));
        if one_of(&["true", "yes", "on", "y", "1"]) {
            Some(true)
        } else if one_of(&["false", "no", "off", "n", "0"]) {
            Some(false)
        } else {
            None
        }
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

macro_rules! whole {
    ($($type:ty, $expected:literal;)+) => {
        $(
            impl FromText for $type {
                const EXPECTED: &'static str = $expected;

                fn from_text(text: &str) -> Option<$type> {
                    text.trim().parse().ok()
                }

                fn to_text(&self) -> String {
                    self.to_string()
                }
            }
        )+
    };
}

whole! {
    i32, "a whole number";
    i64, "a whole number";
    u8, "a whole number from 0 to 255";
    u32, "a whole number that is not negative";
    u64, "a whole number that is not negative";
}
