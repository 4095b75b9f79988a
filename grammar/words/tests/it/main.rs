//! Properties: nothing panics, and what is shown reads back as the same.

use proptest::prelude::*;
use strake_words::{FieldSelector, GoDuration, LabelSelector, Quantity, Reference};

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn references_read_back(text in "[a-zA-Z0-9:/@._\\-\\[\\]é]{0,40}") {
        if let Ok(reference) = Reference::parse(&text) {
            prop_assert_eq!(Reference::parse(&reference.to_string()), Ok(reference.clone()));
            prop_assert_eq!(Reference::parse(&reference.familiar()), Ok(reference));
        }
    }

    #[test]
    fn quantities_read_back(text in "[+-]?[0-9]{0,25}(\\.[0-9]{0,12})?([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]{1,3}|)") {
        if let Ok(quantity) = Quantity::parse(&text) {
            let again = Quantity::parse(&quantity.to_string()).expect("what is shown reads");
            // A binary quantity is shown in whole units, rounded away from zero.
            prop_assert!(again == quantity || (text.ends_with('i') && again.as_units() == quantity.as_units()), "{} {}", text, quantity);
            prop_assert_eq!(again.to_string(), quantity.to_string());
        }
    }

    #[test]
    fn quantities_are_ordered_by_value(a in -1_000_000_i64..1_000_000, b in -1_000_000_i64..1_000_000) {
        let (left, right) = (Quantity::from_milli(a), Quantity::from_milli(b));
        prop_assert_eq!(left.cmp(&right), a.cmp(&b));
        prop_assert_eq!((left + right).as_milli(), i128::from(a + b));
        prop_assert_eq!((left - right).as_milli(), i128::from(a - b));
        prop_assert_eq!(Quantity::parse(&left.to_string()), Ok(left));
    }

    #[test]
    fn durations_read_back(nanos in any::<i64>()) {
        let shown = GoDuration { nanos }.to_string();
        prop_assert_eq!(GoDuration::parse(&shown), Ok(GoDuration { nanos }), "{}", shown);
    }

    #[test]
    fn no_text_makes_anything_panic(text in "\\PC{0,30}") {
        let _ = (Reference::parse(&text), LabelSelector::parse(&text), FieldSelector::parse(&text), Quantity::parse(&text), GoDuration::parse(&text));
    }
}
