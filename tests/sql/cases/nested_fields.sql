-- title: Fields of rows in rows, NULL on the way
-- data: orders rows=500 seed=3
SELECT id, address.city, address.geo.lat, o.address.geo.lon AS lon, address.geo, items[1].sku AS first_sku
FROM orders AS o;
