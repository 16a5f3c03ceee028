// Excludes elements of dead and of invisible rows.

import package::rows::{following_place, is_row_active, row_place};

// The active ones of the four elements at `index`.
fn active_rows(is_active: vec4<bool>, index: u32) -> vec4<bool> {
    let place0 = row_place(index);
    let place1 = following_place(place0, index + 1u);
    let place2 = following_place(place1, index + 2u);
    let place3 = following_place(place2, index + 3u);
    return is_active
        & vec4<bool>(
            is_row_active(place0.row),
            is_row_active(place1.row),
            is_row_active(place2.row),
            is_row_active(place3.row),
        );
}

fn is_element_active(index: u32) -> bool {
    return is_row_active(row_place(index).row);
}

// Whether the row of two elements is active; true for two rows.
fn is_any_row_active(first: u32, last: u32) -> bool {
    let row = row_place(first).row;
    return row_place(last).row != row || is_row_active(row);
}

// Quads of dead and invisible rows are not read.
fn skips_rows(is_active: vec4<bool>) -> bool {
    return !any(is_active);
}
