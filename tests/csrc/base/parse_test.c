/* SPDX-License-Identifier: Apache-2.0 */
/* The bounded parsers take what they document and nothing else. */
#include "base/parse.h"

#include "../check.h"

static void numbers_are_digits_only(void)
{
    uint64_t v = 7;
    CHECK(orion_parse_u64("0", &v) && v == 0);
    CHECK(orion_parse_u64("18446744073709551615", &v) && v == UINT64_MAX);
    CHECK(orion_parse_u64("0xfFfFffffffffffff", &v) && v == UINT64_MAX);
    CHECK(orion_parse_u64("007", &v) && v == 7);
    static const char *const bad[] = {"",
                                      " 1",
                                      "1 ",
                                      "-1",
                                      "+1",
                                      "1x",
                                      "0x",
                                      "0xg",
                                      "18446744073709551616",
                                      "99999999999999999999",
                                      "0x10000000000000000",
                                      "1.5"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        CHECK(!orion_parse_u64(bad[i], &v));
    CHECK_EQUAL(v, 7);
}

static void prefixes_stop_at_the_first_other_character(void)
{
    uint64_t v;
    const char *rest = orion_parse_u64_prefix("12 34", &v);
    CHECK(rest != NULL && *rest == ' ' && v == 12);
    CHECK(orion_parse_u64_prefix("max", &v) == NULL);
}

static void fractions_become_parts_per_million(void)
{
    uint32_t ppm = 1;
    CHECK(orion_parse_ppm("1", &ppm) && ppm == 1000000);
    CHECK(orion_parse_ppm("0.05", &ppm) && ppm == 50000);
    CHECK(orion_parse_ppm("0.0000019", &ppm) && ppm == 1);
    CHECK(!orion_parse_ppm(".5", &ppm));
    CHECK(!orion_parse_ppm("0.5x", &ppm));
    CHECK(!orion_parse_ppm("5000", &ppm));
}

static void options_are_found_by_whole_keys(void)
{
    char value[8];
    CHECK(orion_parse_option("xseed=1,seed=22", ',', "seed", value, sizeof(value)) && strcmp(value, "22") == 0);
    CHECK(orion_parse_option("device=null&a=", '&', "a", value, sizeof(value)) && value[0] == '\0');
    CHECK(!orion_parse_option("seeds=1", ',', "seed", value, sizeof(value)));
    CHECK(!orion_parse_option("seed", ',', "seed", value, sizeof(value)));
    CHECK(!orion_parse_option("", ',', "seed", value, sizeof(value)));
    CHECK(!orion_parse_option("seed=12345678", ',', "seed", value, sizeof(value))); /* does not fit */
}

CHECK_MAIN(CASE(numbers_are_digits_only), CASE(prefixes_stop_at_the_first_other_character),
           CASE(fractions_become_parts_per_million), CASE(options_are_found_by_whole_keys))
