// Scales learning rates by column.

import package::rows::{FIRST_SCALE, NO_SCALE, RowPlace, following_place, row_place};
import row_table::{row_table};
import step_uniforms::{uniforms};

fn column_scale(place: RowPlace) -> f32 {
    let first = row_table[place.tensor + FIRST_SCALE];
    let number = select(first + place.column, 0u, first == NO_SCALE);
    return select(uniforms.group_lrs[number / 4u][number % 4u], 1.0, first == NO_SCALE);
}

// The learning rates of the four elements at `index`.
fn column_lr(lr: vec4<f32>, index: u32) -> vec4<f32> {
    let place0 = row_place(index);
    let place1 = following_place(place0, index + 1u);
    let place2 = following_place(place1, index + 2u);
    let place3 = following_place(place2, index + 3u);
    return lr * vec4<f32>(column_scale(place0), column_scale(place1), column_scale(place2), column_scale(place3));
}
