// node render.js RESVG JOBS: SVG files to PNG files. RESVG: folder of @resvg/resvg-js; JOBS: JSON [{svg, png, width}].
const fs = require("fs");
const zlib = require("zlib");
const { Resvg } = require(process.argv[2]);

for (const job of JSON.parse(fs.readFileSync(process.argv[3]))) {
  const bytes = fs.readFileSync(job.svg);
  const compressed = bytes[0] === 0x1f && bytes[1] === 0x8b; // .svgz
  const options = { fitTo: { mode: "width", value: job.width } };
  const picture = new Resvg(compressed ? zlib.gunzipSync(bytes) : bytes, options).render();
  fs.writeFileSync(job.png, picture.asPng());
}
