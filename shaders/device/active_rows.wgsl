// Excludes elements of dead and of invisible rows.

import package::rows::{is_row_active, quad_places, row_place};

// The active ones of the four elements at `index`.
fn active_rows(is_active: vec4<bool>, index: u32) -> vec4<bool> {
    let places = quad_places(index);
    return is_active
        & vec4<bool>(
            is_row_active(places.x.row),
            is_row_active(places.y.row),
            is_row_active(places.z.row),
            is_row_active(places.w.row),
        );
}

fn is_element_active(index: u32) -> bool {
    return is_row_active(row_place(index).row);
}

// True if the row of two elements is active, or if they have two rows.
fn is_any_row_active(first: u32, last: u32) -> bool {
    let row = row_place(first).row;
    return row_place(last).row != row || is_row_active(row);
}

// Quads of dead and invisible rows are not read.
fn skips_rows(is_active: vec4<bool>) -> bool {
    return !any(is_active);
}
