//! Properties of the decoder over generated formats, data and values.

use proptest::prelude::*;
use rsecho::unpack::{Code, Layout, Value};

fn format() -> impl Strategy<Value = String> {
    let item = (
        prop_oneof![Just(String::new()), (0..40_u32).prop_map(|n| n.to_string())],
        proptest::sample::select("xcbB?hHiIlLqQefdsp".chars().collect::<Vec<_>>()),
        proptest::sample::select(vec!["", "", " ", "\t\n"]),
    );
    let items = proptest::collection::vec(item, 1..12);
    let order = proptest::sample::select(vec!["<", ">", "!", "="]);
    (order, items).prop_map(|(order, items)| {
        let items = items.into_iter();
        let text: String = items
            .map(|(count, code, space)| format!("{count}{code}{space}"))
            .collect();
        format!("{order}{text}")
    })
}

/// A layout and enough bytes for `records` records.
fn layout_and_data(records: usize) -> impl Strategy<Value = (Layout, Vec<u8>)> {
    format()
        .prop_filter_map("describes nothing", |text| Layout::compile(&text).ok())
        .prop_flat_map(move |layout| {
            let bytes = proptest::collection::vec(any::<u8>(), layout.size() * records);
            (Just(layout), bytes)
        })
}

proptest! {
    #[test]
    fn what_was_decoded_encodes_to_what_decodes_the_same((layout, data) in layout_and_data(1)) {
        let values: Vec<Value> = layout.decode(&data).unwrap().collect();
        prop_assert_eq!(values.len(), layout.field_count());
        let mut packed = Vec::new();
        layout.encode_into(&values, &mut packed).unwrap();
        prop_assert_eq!(packed.len(), layout.size());
        let again: Vec<Value> = layout.decode(&packed).unwrap().collect();
        for (value, again) in values.iter().zip(&again) {
            match (value, again) {
                (Value::Float(a), Value::Float(b)) => prop_assert_eq!(a.to_bits(), b.to_bits()),
                _ => prop_assert_eq!(value, again),
            }
        }
    }

    #[test]
    fn only_whole_records_decode((layout, data) in layout_and_data(2), cut in any::<usize>()) {
        let cut = cut % (data.len() + 1);
        prop_assert_eq!(layout.check(&data[..cut]).is_ok(), cut == layout.size());
        prop_assert_eq!(layout.decode(&data[..cut]).is_ok(), cut == layout.size());
        let whole = layout.size() != 0 && cut % layout.size() == 0;
        prop_assert_eq!(layout.decode_columns(&data[..cut]).is_ok(), whole);
    }

    #[test]
    fn slots_tile_the_record_in_order((layout, _) in layout_and_data(0)) {
        let mut end = 0;
        for (index, slot) in layout.slots().enumerate() {
            prop_assert_eq!(slot.index, index);
            prop_assert!(slot.offset >= end);
            prop_assert!(slot.code != Code::Pad);
            end = slot.offset + slot.width;
        }
        prop_assert!(end <= layout.size());
    }

    #[test]
    fn any_text_gives_a_layout_or_one_line(text in "[<>=!@ ]?(\\PC|[0-9xcbB?hHiIlLqQefdsp ]){0,40}") {
        if let Err(error) = Layout::compile(&text) {
            prop_assert_eq!(error.to_string().lines().count(), 1);
        }
    }
}
