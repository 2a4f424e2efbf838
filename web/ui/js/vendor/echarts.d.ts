// The file itself comes from the npm package at build time and is served beside this name.
export * from "echarts";
