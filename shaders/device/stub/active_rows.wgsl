// Stub for optimizers without rows that come and go.

fn active_rows(is_active: vec4<bool>, index: u32) -> vec4<bool> {
    return is_active;
}

fn is_element_active(index: u32) -> bool {
    return true;
}

fn is_any_row_active(first: u32, last: u32) -> bool {
    return true;
}

fn skips_rows(is_active: vec4<bool>) -> bool {
    return false;
}
