// Scales learning rates by column.

import package::rows::{FIRST_SCALE, NO_SCALE, RowPlace, quad_places};
import row_table::{row_table};
import step_uniforms::{uniforms};

fn column_scale(place: RowPlace) -> f32 {
    let first = row_table[place.tensor + FIRST_SCALE];
    let number = select(first + place.column, 0u, first == NO_SCALE);
    return select(uniforms.group_lrs[number / 4u][number % 4u], 1.0, first == NO_SCALE);
}

// The learning rates of the four elements at `index`.
fn column_lr(lr: vec4<f32>, index: u32) -> vec4<f32> {
    let places = quad_places(index);
    return lr * vec4<f32>(column_scale(places.x), column_scale(places.y), column_scale(places.z), column_scale(places.w));
}
